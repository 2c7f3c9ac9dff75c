"""The page in a real browser, without a network."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from made_report import CUTS, Experiment

from extract.errors import PdfError
from extract.settings import read_settings
from reports.build import build_report
from reports.pdf import find_browser, write_pdf
from reports.settings import ReportSettings

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = find_browser()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    city = Experiment(tmp_path_factory.mktemp("report") / "city").write()
    return build_report(read_settings(city.config, ReportSettings))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with warnings.catch_warnings(), sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield running
        running.close()


def open_page(browser: Any, built: Any, **how: Any) -> tuple[Any, list[str]]:
    """Open the page with no network; gives it, and what it said or asked for from elsewhere."""
    page, heard = browser.new_context(offline=True, **how).new_page(), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else heard.append(request.url)
        ),
    )
    page.goto(built.as_uri())
    page.wait_for_selector("body[data-drawn]", timeout=60_000)
    return page, heard


@pytest.fixture(scope="module")
def shared_map(built: Any) -> Any:
    return built.with_name("map.html")


CONTRAST = """() => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255);
    const linear = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const found = [];
  for (const text of document.querySelectorAll("[data-figure] svg text")) {
    const style = getComputedStyle(text), name = text.closest("[data-figure]").dataset.figure;
    const ends = [light(style.fill), paper].sort((a, b) => a - b);
    const onCell = /^(heat|correlations)/.test(name) && style.textAnchor === "middle" && /^[−\\d.]+$/.test(text.textContent);
    const ratio = onCell ? 21 : (ends[1] + 0.05) / (ends[0] + 0.05);
    if (!text.textContent.trim()) continue;
    if (ratio < 4.5 || parseFloat(style.fontSize) < 12) found.push([name, text.textContent, style.fill, style.fontSize]);
  }
  return found;
}"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (420, "dark")])
@pytest.mark.parametrize("name", ["index.html", "map.html"])
def test_axe_finds_nothing_and_text_of_figures_stands_out(browser, built, name, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page, _ = open_page(
        browser,
        built.with_name(name),
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
    )
    # axe can tell no contrast of what lies on a gradient or in a figure
    page.add_style_tag(content=".scroll { background: none !important }")
    assert page.evaluate(CONTRAST) == []
    found = axe.run(page, context={"exclude": [["[data-figure]"]]}).response
    assert len(found["passes"]) > 20
    assert [one["id"] for one in found["violations"]] == []


def test_map_is_read_with_the_keyboard_alone(browser, shared_map):
    page, heard = open_page(browser, shared_map, viewport={"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    for _ in range(7):  # two menus, find, three buttons, the map
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "map"
    page.keyboard.press("ArrowRight")
    before = page.inner_text("#place h2")
    page.keyboard.press("ArrowRight")
    numbers = [int(text.split()[1]) for text in (before, page.inner_text("#place h2"))]
    assert numbers[1] == numbers[0] + 1  # tiles are numbered from west to east
    page.focus("#target")
    page.keyboard.press("c")
    assert page.inner_text("#verdict").startswith(
        "crime, pictures beside the best baseline: better."
    )
    assert page.url.endswith("#target=crime&show=prediction")
    page.focus("#find")
    page.keyboard.type("59")
    assert page.inner_text("#place h2") == "tile 59"
    assert heard == []


def test_map_tells_the_place_below_the_pointer(browser, shared_map, built):
    page, _ = open_page(browser, shared_map)
    box = page.locator("#map").bounding_box()
    # ten tiles by six, in the middle, with a margin of 2 % where they are as wide or high as that
    side = 0.96 * min(box["width"] / 10, box["height"] / 6)
    x = box["x"] + box["width"] / 2 - 4.5 * side
    page.mouse.move(x, box["y"] + box["height"] / 2 + 2.5 * side)
    assert page.inner_text("#place h2") == "tile 0"  # in the south-west
    facts = dict(
        zip(
            page.locator("#place dt").all_inner_texts(),
            page.locator("#place dd").all_inner_texts(),
            strict=True,
        )
    )
    tiles = pd.read_csv(built.parents[2] / "tiles.csv")
    truth = tiles["income"][0]
    low, high = (float(end.replace("−", "-")) for end in facts["80 % interval"].split(" … "))
    assert (low + high) / 2 == pytest.approx(truth / 2, abs=0.01 * (high - low))
    names = ("truth", "prediction", "residual")
    shown = {name: float(facts[name].replace("−", "-")) for name in names}
    assert shown == pytest.approx(
        {"truth": truth, "prediction": truth / 2, "residual": -truth / 2}, rel=0.01
    )
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    page.select_option("#what", "residual")
    assert page.locator("#high").inner_text().endswith("too high")


def test_map_without_javascript_names_the_report(browser, shared_map):
    page = browser.new_context(offline=True, java_script_enabled=False).new_page()
    page.goto(shared_map.as_uri())
    assert page.locator("noscript").is_visible()
    assert not page.locator("#controls").is_visible()


def test_nothing_is_asked_for_and_no_error_is_said(browser, built):
    page, heard = open_page(browser, built)
    assert heard == []
    assert page.locator("[data-figure] svg").count() == page.locator("[data-figure]").count() > 8


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_nothing_is_wider_than_the_screen(browser, built, width, scheme):
    page, _ = open_page(
        browser, built, viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#answer tbody tr").first.bounding_box()["y"] < 800
    if (
        width == 1280
    ):  # all of the answer, which tests of the page ask ten questions, is in two screens
        assert page.locator("#ladder").bounding_box()["y"] < 2 * 800


@pytest.mark.parametrize(
    ("scheme", "blue"), [("light", "rgb(0, 114, 178)"), ("dark", "rgb(86, 180, 233)")]
)
def test_marks_stand_out_from_the_paper(browser, built, scheme, blue):
    page, _ = open_page(browser, built, color_scheme=scheme)
    for figure in ("answer", "truth-0"):
        mark = page.locator(f"[data-figure='{figure}'] svg [fill='#0072B2']").first
        assert mark.evaluate("e => getComputedStyle(e).fill") == blue


def test_leaderboard_is_filtered_and_sorted(browser, built):
    page, _ = open_page(browser, built)
    page.select_option("#target", "crime")
    assert page.inner_text("#board-count") == "6 of 36 cells"
    page.fill("#board-controls input", "KNN")
    assert page.inner_text("#board-count") == "2 of 36 cells"
    names = page.locator("#board tbody tr:visible td:nth-child(4) small")
    before = (
        names.all_text_contents()
    )  # the inner text of rows out of sight is empty: they are not drawn yet
    head = page.locator("#board thead button").nth(5)
    head.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator("#board th[aria-sort=ascending]").inner_text().startswith("R²")
    assert names.all_text_contents() == before[::-1] == [CUTS[1], CUTS[0]]


FOCUS = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  one.dataset.reached = "yes";
  return [one.tagName, style.outlineStyle];
}"""
UNREACHED = """() => [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")]
  .filter((one) => one.checkVisibility() && !one.dataset.reached).map((one) => one.outerHTML)"""


def press_tab(page: Any) -> str:
    """Go on to what the keyboard reaches next, which has to show it; return its tag."""
    page.keyboard.press("Tab")
    tag, outline = page.evaluate(FOCUS)
    assert outline != "none" or tag == "BODY"
    return str(tag)


def test_page_is_read_with_the_keyboard_alone(browser, built):
    page, heard = open_page(browser, built)
    press_tab(page)
    assert page.inner_text("a:focus") == "To the answer"
    press_tab(page)
    page.keyboard.press("c")
    assert list_shown(page) == {"crime"}
    assert [press_tab(page), press_tab(page)] == ["SUMMARY", "A"]  # the contents
    page.keyboard.press("Enter")
    assert page.url.endswith("#target=crime&at=answer")
    while press_tab(page) != "BODY":
        pass
    assert page.evaluate(UNREACHED) == []
    assert heard == []


SECTIONS = ("ladder", "comparison", "truth", "maps", "errors")


def list_shown(page: Any) -> set[str]:
    return set(page.locator(".panel:visible h3").all_inner_texts())


def test_one_menu_moves_everything_and_stands_in_the_address(browser, built):
    page, _ = open_page(browser, built)
    assert list_shown(page) == {"income"}
    page.select_option("#target", "crime")
    assert list_shown(page) == {"crime"}
    for section in SECTIONS:
        assert page.locator(f"#{section} .panel:visible").count() == 1
    assert page.url.endswith("#target=crime")
    page.click("nav a[href='#maps']")
    assert page.url.endswith("#target=crime&at=maps")
    page.reload()
    page.wait_for_selector("body[data-usable]")
    assert list_shown(page) == {"crime"}


def test_without_javascript_every_index_and_every_picture_is_there(browser, built):
    page = browser.new_context(offline=True, java_script_enabled=False).new_page()
    page.goto(built.as_uri())
    assert list_shown(page) == {"income", "crime"}
    pictures = page.locator("figure noscript img")
    assert pictures.count() > 8
    assert pictures.first.evaluate("e => e.naturalWidth") > 300


def test_hostile_names_run_nothing_and_widen_nothing(browser, tmp_path):
    names = (
        "<img src=x onerror=document.title='hacked'>",
        "'\"`</script><b>",
        "x" * 300,
        "🏚 Straße",
    )
    city = Experiment(tmp_path / "city").write(names, ("area", "random"), title=names[0] + names[2])
    page, heard = open_page(
        browser,
        build_report(read_settings(city.config, ReportSettings)),
        viewport={"width": 390, "height": 800},
    )
    assert heard == []
    assert page.title().startswith("<img src=x")
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in names:
        page.select_option("#target", name)
        assert list_shown(page) == {name}


def test_page_is_usable_before_everything_is_drawn(browser, built):
    page = browser.new_context(offline=True).new_page()
    page.goto(built.as_uri(), wait_until="commit")
    page.wait_for_selector("body[data-usable]", timeout=60_000)
    assert page.locator("#answer svg").count() == 1
    assert page.locator("#target").is_visible()


def test_pdf_is_printed_whole(built, tmp_path):
    path = tmp_path / "report.pdf"
    write_pdf(built, path, CHROMIUM)
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    assert content.rstrip().endswith(b"%%EOF")
    assert [p.name for p in tmp_path.iterdir()] == ["report.pdf"]


def test_failed_print_leaves_the_old_file(built, tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(b"old")
    with pytest.raises(PdfError, match=r"report.pdf: \S*false did not print .* from a browser"):
        write_pdf(built, path, shutil.which("false"))
    assert path.read_bytes() == b"old"
