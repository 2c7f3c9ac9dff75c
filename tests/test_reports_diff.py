"""Two experiments side by side, and the report on a local address."""

from __future__ import annotations

import io
import shutil
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_experiment import (
    change,
    fit,
    make_experiment,
    read_signal,
    state_scores,
    write_table,
)
from rich.console import Console
from typer.testing import CliRunner

from extract.errors import ReportError
from models.store.runs import read_predictions, run_folder, write_run
from reports.cli import app
from reports.diff import compare_experiments
from reports.page.diff_table import render_diff
from reports.serve import open_server


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two experiments that are the same."""
    first = tmp_path_factory.mktemp("first")
    fit(make_experiment(first))
    second = tmp_path_factory.mktemp("second") / "copy"
    shutil.copytree(first, second)
    return first, second


def test_the_same_experiment_twice_has_no_differences(pair):
    rows = compare_experiments(pair[0] / "s.toml", pair[1] / "out")
    assert set(rows["verdict"]) == {"the same"}
    assert set(rows["what"]) == {"best of each", "same cell"}
    assert rows["difference"].abs().max() == 0


def test_a_planted_improvement_is_found_and_nothing_else(pair, tmp_path):
    better = tmp_path / "better"
    shutil.copytree(pair[1], better)
    run = ("area", "net/last:avg", "ridge")
    frame = read_predictions(better / "out", *run)
    is_health = frame["target"] == "health"
    noise = 0.1 * np.random.default_rng(0).normal(size=int(is_health.sum()))
    frame.loc[is_health, "prediction"] = frame.loc[is_health, "truth"] + noise
    write_run(run_folder(better / "out", *run), frame, None, {"cells": {}})
    state_scores(change(better / "s.toml"))
    rows = compare_experiments(pair[0] / "s.toml", better / "s.toml").query("what == 'same cell'")
    found = rows[rows["verdict"] == "better"]
    assert found[["target", "first"]].to_numpy().tolist() == [["health", "ridge on net/last:avg"]]
    assert (found["low"] > 0).all()


def test_classes_are_compared_by_balanced_accuracy(tmp_path):
    first, signal = make_experiment(tmp_path / "first"), read_signal()
    write_table(first.parent, kind=np.where(signal > np.median(signal), "high", "low"))
    first.write_text(
        first.read_text().replace('columns = ["income", "health"]', 'classes = ["kind"]')
    )
    fit(first)
    second = tmp_path / "second"
    shutil.copytree(first.parent, second)
    fit(second / "s.toml", names=["mean", "knn"])
    rows = compare_experiments(first, second / "s.toml").set_index("what")
    assert set(rows["score"]) == {"balanced_accuracy"}
    assert rows.loc["best of each", ["first", "second"]].tolist() == [
        "ridge on net/last:avg",
        "knn on net/last:avg",
    ]
    assert rows.loc["same cell", "verdict"] == "the same"
    assert (
        rows.loc["best of each", "low"]
        <= rows.loc["best of each", "difference"]
        <= rows.loc["best of each", "high"]
    )


def test_other_folds_are_refused(pair, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(pair[1], other)
    fit(other / "s.toml", seed=5)
    with pytest.raises(
        ReportError, match=r"not the same folds on the split 'area'.*same table, folds and seed"
    ):
        compare_experiments(pair[0] / "s.toml", other / "s.toml")


def test_a_folder_without_runs_is_refused(pair, tmp_path):
    with pytest.raises(ReportError, match=r"no finished run below it. Name a settings file"):
        compare_experiments(pair[0] / "s.toml", tmp_path)


def test_command_draws_a_table_and_writes_it(pair, tmp_path):
    change(pair[0] / "s.toml")
    csv = tmp_path / "diff.csv"
    result = CliRunner().invoke(
        app, ["diff", str(pair[0] / "s.toml"), str(pair[1] / "s.toml"), "--csv", str(csv)]
    )
    assert result.exit_code == 0, result.stderr
    piped = pd.read_csv(io.StringIO(result.stdout), sep="\t")
    pd.testing.assert_frame_equal(piped, pd.read_csv(csv))
    assert len(piped) == 6
    text = io.StringIO()
    Console(file=text, width=60).print(
        render_diff(compare_experiments(pair[0] / "s.toml", pair[1] / "s.toml"))
    )
    assert "income" in text.getvalue()
    assert "Gain: the second less the first." in text.getvalue()
    assert "..." not in text.getvalue()  # what a column without room for it shows


def test_report_is_served_from_this_machine_alone(tmp_path):
    (tmp_path / "index.html").write_text("<p>a page</p>")
    with open_server(tmp_path, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert server.server_address[0] == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/") as answer:
            assert answer.read() == b"<p>a page</p>"
        with pytest.raises(ReportError, match=r"port \d+: .* Choose another with --port"):
            open_server(tmp_path, server.server_port)
        server.shutdown()


def test_nothing_to_serve_is_said(tmp_path):
    with pytest.raises(ReportError, match=r"index.html: no such file. Run `make report` first"):
        open_server(tmp_path, 0)
