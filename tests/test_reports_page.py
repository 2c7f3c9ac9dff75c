"""The page from made artifacts: its numbers, its sentences, what stands beside it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_report import CUTS, EVIL, Experiment, row_of
from typer.testing import CliRunner

from extract.settings import read_settings
from reports.cli import app
from reports.data.collect import collect
from reports.page.figures import build_figures
from reports.sections.answer import build_answer_chart, build_answers, describe_exceptions
from reports.sections.comparison import build_heat
from reports.sections.headline import build_headline
from reports.sections.model_card import flatten_settings
from reports.settings import ReportSettings


@pytest.fixture
def city(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path / "city")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the page of an experiment as it is written by default."""
    return Experiment(tmp_path_factory.mktemp("default") / "city").write().render()


def test_page_has_the_numbers_of_the_farthest_split(page):
    row = row_of(page, "income")
    for text in (
        "ridge",
        "vgg16/block5_pool:avg",
        "<b>0.51</b>",
        "0.41 … 0.61",
        "a map of where places are",
        "0.39",
        "0.20 … 0.50",
        "0.12",
        "0.81",
        "not chosen: 0.44 (0.33 … 0.55)",
        ">better<",
    ):
        assert text in row
    assert "whole blocks of the map held out" in page
    assert "R² of the best models is 0.81 on “random” and 0.51 on “block”" in page
    assert (
        "Yes, on 2 of 2: pictures predict income and crime better than the best baseline." in page
    )
    assert "The best predicted is income: R² 0.44 (0.33 to 0.55) where it was not chosen." in page
    assert "They explain 44\u202f% (33\u202f% to 55\u202f%), the best baseline" in page
    assert "Pictures beat the best baseline on 2 of 2 indices" in page
    assert "12.5" in page
    assert "Random weights" not in page


def test_many_alike_are_one_sentence_instead_of_seven(city):
    targets = [f"t{i}" for i in range(7)]
    collected = collect(read_settings(city.write(targets, ("area",)).config, ReportSettings))
    assert build_headline(collected).startswith(
        "Yes, on 7 of 7: pictures predict every index better than the best baseline."
    )
    exceptions = describe_exceptions(build_answers(collected), collected)
    assert exceptions[0] == (
        "Pictures are better on 7 indices. They explain 44\u202f%, the best baselines 12\u202f%."
    )
    assert not [text for text in exceptions if text.startswith("t0")]


def test_verdict_is_that_of_the_paired_comparison_not_of_the_interval(city):
    page = city.write(verdict="not distinguishable").render()
    assert "no difference detected" in row_of(page, "income")
    assert "No: pictures add nothing that we can detect on any of 2 indices." in page
    assert "The best baseline is a map of where places are on 2 of 2." in page
    assert "best predicted" not in page
    assert "We detect no difference between pictures and the best baseline on 2 indices." in page


def test_winners_that_do_not_stand_out_are_counted(page):
    assert (
        "No cell is better than all others, on any of 2 indices. Of each index, 1 other cannot be "
        "told from the best."
    ) in page


def test_too_few_areas_stand_on_the_first_screen(city, page):
    assert "Too few areas" not in page
    city.write().write_audit("warning", accepted=())
    path = city.out / "audit.json"
    path.write_text(path.read_text().replace("repeated-id", "few-areas"))
    assert (
        "Too few areas: no accuracy can be claimed"
        in city.render().split('<section id="answer">')[0]
    )


def test_accepted_fatal_finding_stands_on_the_first_screen(city):
    city.write().write_audit()
    page = city.render()
    head = page.split("<main>")[1].split("</header>")[0]
    assert "Fatal finding, accepted by the settings: repeated-id." in head
    assert "2 ids stand in two rows" in head
    assert "fatal, accepted" in page.split('<section id="data">')[1]


def test_finding_that_is_not_fatal_stands_with_the_data_alone(city):
    city.write().write_audit("warning", accepted=())
    page = city.render()
    assert "Fatal finding" not in page
    assert "repeated-id" in page.split('<section id="data">')[1]
    assert "the audit found 1 warning" in page


def test_files_beside_the_page(city):
    city.write().build()
    report = city.out / "report"
    with (report / "leaderboard.csv").open() as file:
        board = list(csv.DictReader(file))
    assert len(board) == 2 * 3 * 6
    assert [board[0][k] for k in ("split", "rank", "model", "verdict")] == [
        "block",
        "1",
        "ridge",
        "best",
    ]
    assert {r["verdict"] for r in board if r["model"] == "location"} == {"worse"}
    assert (report / "leaderboard.md").read_text().startswith("| target | split |")
    assert r"block5\_pool" in (report / "leaderboard.tex").read_text()
    assert (report / "answer.csv").read_text().splitlines()[1].startswith("income,ridge,0.51,")
    stems = {"answer", "cost", "pareto", "distributions", "correlations", "tiles"} | {
        f"{kind}-{name}"
        for kind in ("heat", "ladder", "truth", "residual")
        for name in ("01-income", "02-crime")
    }
    for suffix in (".svg", ".png", ".csv"):
        assert stems <= {p.stem for p in report.glob(f"*{suffix}")}
    assert (report / "map-01-income.csv").read_text().count("\n") == 61


def test_json_has_the_numbers_of_the_sentences(city):
    city.write(("income",)).build()
    document = json.loads((city.out / "report" / "report.json").read_text())
    answer = document["answers"][0]
    assert [answer[k] for k in ("target", "value", "corrected", "gain", "decision")] == [
        "income",
        0.51,
        0.44,
        0.3866,
        "better",
    ]
    assert document["headline"].startswith("Yes, on 1 of 1: pictures predict income")


def test_same_runs_give_the_same_bytes(city):
    city.write(("income",), ("area",)).build()
    first = {p.name: p.read_bytes() for p in (city.out / "report").iterdir()}
    city.build()
    assert {p.name: p.read_bytes() for p in (city.out / "report").iterdir()} == first


def test_direction_of_the_index_is_said_where_it_is_known(city, page):
    assert (
        "Higher is more deprived, on every index."
        in city.write(reports='higher_is = "more deprived"\n').render()
    )
    assert "The settings do not say which way the indices point" in page


def test_random_weights_are_announced(city):
    assert (
        "Random weights: these numbers say nothing about the real networks"
        in city.write(weights="random:0").render()
    )


def test_missing_scores_is_one_line_that_names_make_models(city):
    city.write()
    (city.out / "scores.csv").unlink()
    result = CliRunner().invoke(app, ["build", "--config", str(city.config)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "make models" in result.stderr
    assert result.stderr.count("\n") == 1


def test_last_line_is_the_path(city, monkeypatch):
    monkeypatch.setattr("reports.build.find_browser", lambda: None)
    result = CliRunner().invoke(app, ["build", "--config", str(city.write(("income",)).config)])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[0].startswith("pdf: none")
    assert (
        result.stdout.splitlines()[-1]
        == f"report: {(city.out / 'report' / 'index.html').resolve()}"
    )


def test_importing_reports_loads_no_keras():
    code = (
        "import sys, reports.build, reports.cli, reports.diff; "
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == "[]"


class Prose(HTMLParser):
    """The sentences of paragraphs, lists and captions."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.sentences: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("p", "li", "dd", "figcaption"):
            self.text = ""

    def handle_endtag(self, tag):
        if tag in ("p", "li", "dd", "figcaption"):
            self.sentences += re.split(r"(?<=[.!?])\s+", " ".join(self.text.split()))

    def handle_data(self, data):
        self.text += data


def test_no_sentence_is_longer_than_25_words(city):
    prose = Prose()
    prose.feed(city.write().write_audit().render())
    assert len(prose.sentences) > 50
    assert [s for s in prose.sentences if len(s.split()) > 25] == []


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Is it better than a map?", "better than the best baseline"),
        ("For which index?", "Yes, on 2 of 2: pictures predict income and crime"),
        ("How sure?", "(33\u202f% to 55\u202f%)"),
        ("Than what?", "The best baseline is a map of where places are"),
        ("How was that measured?", "with whole blocks of the map held out"),
        ("On how much?", "60 tiles, 20 areas, 2 indices"),
        ("With which weights and version?", "Roofline"),
        ("What does R² mean?", "The share of what differs between places"),
        ("How much is luck?", "where it was not chosen"),
        ("Which file do I cite?", "the numbers of the sentences, to cite"),
        ("Where is it wrong?", "Where it is wrong</a>: "),
        ("Can I use it for another city?", "For another city the error is not known"),
        ("Where is that on a map?", '<a href="map.html">every tile on a map</a>'),
    ],
)
def test_question_is_answered_on_the_first_screens(first_screens, question, answer):
    assert answer in first_screens


@pytest.fixture
def first_screens(page):
    return page.split("<main>")[1].split('<section id="ladder">')[0]


def test_score_far_below_the_axis_is_drawn_with_its_number(city):
    city.write(("income",))
    city.change_scores(r2_low=-3.14159)
    collected = collect(read_settings(city.config, ReportSettings))
    (row, _) = build_answer_chart(collected)["datasets"]["scores"]
    assert (row["low"], row["drawn_low"], row["beyond"]) == (-3.1416, -0.5, "◂ −3.14")


def test_heat_map_has_baselines_first_and_the_best_models_in_front(city):
    collected = collect(read_settings(city.write(("income",)).config, ReportSettings))
    spec = build_heat(collected, "income")
    assert spec["encoding"]["x"]["sort"] == ["location", "mean", "ridge", "knn"]
    assert spec["encoding"]["y"]["sort"] == ["no network", *CUTS]


def test_figures_say_what_they_show_and_where_it_is_from(city):
    city.write(reports='higher_is = "more deprived"\n')
    figures = build_figures(collect(read_settings(city.config, ReportSettings)))
    titles = {name: figure.title for name, figure in figures.items()}
    assert titles["ladder-0"] == "R² of ridge: 0.81 on “random”, 0.51 on “block”"
    assert titles["heat-0"] == "ridge on vgg16/block5_pool:avg leads with R² 0.51"
    assert titles["distributions"] == "Predictions spread less than the truth on 2 of 2 indices"
    assert titles["tiles"] == "Half of the areas have 3 tiles or fewer, the largest 3"
    assert titles["pareto"] == "ridge has the best mean R² (0.51 in 0.50\u202fs)"
    # predictions are halves of the truths
    assert titles["correlations"].startswith("Indices are about as alike in prediction (")
    assert figures["truth-0"].spec["encoding"]["x"]["title"].endswith("(right: more deprived)")
    assert figures["heat-0"].source == "scores.csv, split “block”"
    assert "" not in [figure.source for figure in figures.values()]


def test_model_card_lists_settings_in_words_and_links_what_was_kept(page):
    card = page.split('<section id="made">')[1]
    assert "<pre" not in card.split("<script")[0]
    assert "{&#34;" not in card
    assert "<dt>tiles.table</dt>" in card
    assert "<dt>models.names</dt><dd>mean, location, ridge, knn</dd>" in card
    flat = flatten_settings({"a": {"b": [1, 2], "c": None}, "d": True})
    assert flat == {"a.b": "1, 2", "d": "True"}


def test_names_of_groups_are_escaped(page):
    assert EVIL not in page
