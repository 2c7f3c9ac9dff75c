"""Colours: contrast that anybody can read, and scales that do not depend on telling red from
green.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from made_report import Experiment

from extract.settings import read_settings
from reports.build import build_content
from reports.data.collect import collect
from reports.sections.maps import DIVERGING, VIRIDIS
from reports.settings import ReportSettings

CSS = (Path(__file__).parents[1] / "reports" / "page" / "page.css").read_text()
# Okabe and Ito 2008, "Color Universal Design", and greys.
SAFE = {"#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f2f2f2", "#7f8c97"}
# Machado et al. 2009, doi:10.1109/TVCG.2009.113, severity 1: linear RGB as protanopes and
# deuteranopes see it.
BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def linear(colour: str | tuple[int, ...]) -> np.ndarray:
    """Return linear RGB of `#rgb`, `#rrggbb` or (r, g, b), as WCAG 2.2 defines it."""
    if isinstance(colour, str):
        digits = colour.lstrip("#")
        digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
        colour = tuple(int(digits[i : i + 2], 16) for i in (0, 2, 4))
    share = np.array(colour) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def luminance(rgb: np.ndarray) -> float:
    return float(rgb @ (0.2126, 0.7152, 0.0722))


def contrast(one: str, other: str) -> float:
    low, high = sorted(luminance(linear(c)) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* (D65) of linear RGB."""
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(np.clip(matrix @ np.clip(rgb, 0, 1) / (0.9505, 1, 1.089), 0.008856, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def themes() -> dict[str, dict[str, str]]:
    """Return the CSS variables as a light screen and as a dark one see them."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block))
        for block in re.findall(r":root \{(.*?)\}", CSS)[:2]
    )
    return {"light": light, "dark": light | dark}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *itertools.product(("ink", "soft", "bad", "good", "accent"), ("paper", "tint")),
        ("on-bad", "bad"),
        ("on-mild", "mild"),
    ],
)
def test_text_has_the_contrast_of_wcag_aa(theme: str, text: str, ground: str) -> None:
    colours = themes()[theme]
    assert contrast(colours[text], colours[ground]) >= 4.5


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#fff", "#000") == pytest.approx(21)
    assert contrast("#777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.fixture(scope="module")
def ranges(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Colours of every scale of every figure."""
    city = Experiment(tmp_path_factory.mktemp("colours") / "city").write()
    specs = [
        f.spec
        for f in build_content(collect(read_settings(city.config, ReportSettings))).figures.values()
    ]
    found: list[list[str]] = []

    def look(node: object) -> None:
        if isinstance(node, dict):
            colours = node.get("range")
            if isinstance(colours, list) and all(
                isinstance(c, str) and c.startswith("#") for c in colours
            ):
                found.append([c.lower() for c in colours])
            for child in node.values():
                look(child)
        for child in node if isinstance(node, list) else ():
            look(child)

    look(specs)
    return found


def test_figures_take_colours_of_the_safe_set_alone(ranges: list[list[str]]) -> None:
    assert len(ranges) > 5
    assert {c for colours in ranges for c in colours} <= SAFE


@pytest.mark.parametrize("kind", BLIND)
def test_colours_of_one_scale_stay_apart_for_the_colour_blind(
    kind: str, ranges: list[list[str]]
) -> None:
    for colours in ranges:
        seen = [lab(np.array(BLIND[kind]) @ linear(c)) for c in colours]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 11, colours


@pytest.mark.parametrize("kind", BLIND)
def test_maps_can_be_read_by_lightness_or_by_blue_against_orange(kind: str) -> None:
    seen = [
        [lab(np.array(BLIND[kind]) @ linear(stop)) for stop in stops]
        for stops in (VIRIDIS, DIVERGING)
    ]
    assert (np.diff([c[0] for c in seen[0]]) > 2).all()
    lightness = [c[0] for c in seen[1]]
    assert np.argmax(lightness) == 2
    assert np.linalg.norm(seen[1][0] - seen[1][-1]) > 40
