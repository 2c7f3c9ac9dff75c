"""Reports of strange experiments: odd names, too little, nothing, unfinished, or not comparable."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_report import CUTS, EVIL, Experiment

from extract.errors import ReportError
from models.store.runs import run_folder


@pytest.fixture
def city(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path / "city")


class Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        addresses = [
            v
            for k, v in attrs
            if k in ("src", "href", "srcset", "data", "action") and v and not v.startswith("#")
        ]
        # A picture in <noscript> is of a file beside the page, and loaded without JavaScript alone.
        is_link = tag == "a" or (addresses[0:1] != [] and addresses[0].endswith(".svg"))
        (self.links if is_link else self.loads).extend(addresses)


def test_page_loads_nothing_from_outside(city):
    page, seen = city.write().render(), Resources()
    seen.feed(page)
    beside = [link for link in seen.links if not link.startswith("data:")]
    assert "leaderboard.csv" in beside
    assert not [link for link in beside if re.search("[/:?]", link)]
    assert {re.split("[;,]", v)[0] for v in seen.loads} == {"data:", "data:image/png"}
    assert "@import" not in page.split("</style>")[0]


@pytest.mark.parametrize(
    "name", [EVIL, "a\"b'c`d", "🏚 Straße", "x" * 300, "</title>&amp;", "{{ 7 * 7 }}"]
)
def test_strange_names_are_shown_as_they_are(city, name):
    page, seen = city.write(targets=(name, "b"), splits=("area",), title=name).render(), Resources()
    seen.feed(page)
    assert seen.scripts == 3
    assert EVIL not in page
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S)[1])
    assert json.dumps(name)[1:-1] in json.dumps(figures)


def test_one_target_one_cut_one_split_without_ceiling_rejects_and_places(city):
    page = city.write(
        ("income",), ("area",), CUTS[:1], ceiling=False, rejects=False, places=False
    ).render()
    assert "<b>0.51</b>" in page
    for absent in (
        "Rejected tiles:",
        '<section id="ladder">',
        '<section id="maps">',
        'href="#maps"',
    ):
        assert absent not in page


def test_one_model_alone(city):
    city.write(("income",), ("area",), CUTS[:1])
    path = city.out / "scores.csv"
    scores = pd.read_csv(path, keep_default_na=False)
    scores[scores["model"] == "ridge"].to_csv(path, index=False)
    for name in ("comparisons.csv", "winners.csv"):
        (city.out / name).unlink()
    page = city.render()
    assert "<b>0.51</b>" in page
    assert "no baseline to compare with" in page


def test_two_areas(city):
    page = city.write(("income",), ("area",), n_areas=2).render()
    assert "6 tiles in 2 areas" in page
    assert '<section id="errors">' in page
    assert "1 of 2" in page
    assert "tenth 1" not in page


def test_interval_that_is_not_known_is_not_written(city):
    city.write(("income",), ("area",))
    city.change_scores(r2_low=float("nan"), r2_high=float("nan"))
    winners = city.out / "winners.csv"
    text = winners.read_text()
    assert ",0.44,0.33,0.55," in text
    winners.write_text(text.replace(",0.44,0.33,0.55,", ",,,,"))
    assert "They explain 51\u202f%, the best baseline" in city.render()


def test_undefined_scores_are_dashes(city):
    city.write(("income",), ("area",))
    city.change_scores(
        **dict.fromkeys(("r2", "r2_low", "r2_high", "rmse", "calibration_slope"), float("nan"))
    )
    page = city.render()
    assert "<b>–</b>" in page
    assert "NaN" not in re.search(r'id="figures">(.*?)</script>', page, re.S)[1]
    assert "No answer: no model that sees pictures could be scored." in page


def test_cells_that_were_not_compared_are_said_to_be_so(city):
    city.write(("income",), ("area",))
    (city.out / "comparisons.csv").unlink()
    (city.out / "winners.csv").unlink()
    page = city.render()
    assert "No answer: no model that sees pictures could be compared" in page
    assert ">not compared<" in page
    assert "The cells were not compared with each other" in page


def test_baselines_alone_and_no_table_and_no_features(city):
    city.write(("income",), ("area",))
    path = city.out / "scores.csv"
    scores = pd.read_csv(path, keep_default_na=False)
    scores[scores["backbone"] == "none"].to_csv(path, index=False)
    (city.folder / "tiles.csv").unlink()
    (city.out / "features" / "vgg16.h5").unlink()
    assert "only baselines were fitted" in city.render()


def test_unfinished_run_is_shown_as_such(city):
    city.write(("income",), ("area",))
    (run_folder(city.out, "area", CUTS[1], "knn") / "run.json").unlink()
    page = city.render()
    assert "<strong>Unfinished:</strong> 1 of 6 runs" in page
    assert f"<li>area {CUTS[1]} knn</li>" in page


def test_run_of_other_folds_is_refused_by_name(city):
    city.write(("income",), ("area",))
    city.write_run("area", CUTS[1], "knn", ("income",), folds="0" * 64)
    with pytest.raises(
        ReportError,
        match=rf"run area {CUTS[1]} knn: fitted on other folds than the rest \(1 of 6 runs",
    ):
        city.render()


def test_comparisons_of_another_form_are_refused(city):
    city.write(("income",), ("area",))
    (city.out / "comparisons.csv").write_text("split,target\n")
    with pytest.raises(ReportError, match=r"comparisons.csv: no column level, .*make models"):
        city.render()


def test_classes_alone(city):
    city.write(("income",), ("area",))
    city.change_scores(
        r2=float("nan"),
        balanced_accuracy=0.6,
        balanced_accuracy_low=0.5,
        balanced_accuracy_high=0.7,
        accuracy=0.65,
        f1_macro=0.55,
        log_loss=1.1,
    )
    page = city.render()
    assert "could be compared with a baseline" in page.split("</header>")[0]
    assert "<b>0.60</b><br><small>0.50 … 0.70" in page
