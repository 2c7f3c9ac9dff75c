"""The loop: from embeddings on disk to scores and kept models; killed at any moment, it goes on
from there.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_experiment import N, change, fit, make_experiment, write_features, write_table
from rich.console import Console
from typer.testing import CliRunner

from extract.errors import RunFileError
from extract.settings import read_settings
from models.cli import app
from models.execution.fit_progress import FitDisplay, FitProgress, format_seconds
from models.fit import fit_all
from models.settings import FitSettings
from models.store.kept_models import load_model
from models.store.runs import read_predictions, read_run
from models.store.score_tables import SCORE_COLUMNS, read_scores

NAMES = ["mean", "location", "ridge", "ridge@area", "knn", "stack"]


def of(path: Path, *, level: str, target: str = "income") -> pd.DataFrame:
    scores = read_scores(change(path).folder)
    return scores[(scores["target"] == target) & (scores["level"] == level)].set_index("model")


def test_a_fit_writes_the_contracts(tmp_path: Path) -> None:
    path = make_experiment(tmp_path, names=NAMES)
    write_table(tmp_path, flat=1.5)
    fit(path, columns=["income", "flat"])
    folder = change(path).folder
    assert set(SCORE_COLUMNS) <= set(read_scores(folder).columns)
    tile, area = of(path, level="tile"), of(path, level="area")
    assert tile.loc["ridge", "r2"] > 0.7
    assert area.loc[["stack", "ridge@area"], "r2"].min() > 0.7
    assert (tile.loc["mean", "backbone"], area.loc["stack", "backbone"]) == ("none", "all")
    assert "ridge@area" not in tile.index
    assert (tile["n"] == N - 1).all()
    assert (area["n"] == 25).all()
    assert of(path, level="tile", target="flat")["r2"].isna().all()
    assert read_predictions(folder, "area", "net/last:avg", "ridge")["prediction"].notna().all()
    assert read_run(folder, "area", "none", "location")["chosen"]["income"]["0"]
    assert read_run(tmp_path / "out", "area", "net/last:avg", "ridge")["peak_rss_bytes"] > 1 << 20


def test_a_fold_without_a_usable_tile_ends_the_fit(tmp_path: Path) -> None:
    path = make_experiment(tmp_path)
    fit(path)
    folder = change(path).folder
    fold = pd.read_parquet(folder / "folds.parquet").set_index("id")["fold"]
    write_features(change(path), rejected=set(fold.index[fold == 2]))
    with pytest.raises(ValueError, match="usable tiles in 4 folds, got them in 3"):
        fit(path)


def test_a_stack_is_not_touched_by_the_labels_that_it_predicts(tmp_path: Path) -> None:
    path = make_experiment(tmp_path, names=["ridge", "knn", "stack"], columns=["income"])
    fit(path)
    before = read_predictions(change(path).folder, "area", "all", "stack").set_index("id")
    rows = before.index[before["fold"] == 2]
    labels = before["truth"].reindex(range(N)).fillna(0.0)
    labels.loc[rows] *= -50
    write_table(tmp_path, income=labels)
    fit(path)
    after = read_predictions(change(path).folder, "area", "all", "stack").set_index("id")
    np.testing.assert_allclose(
        after.loc[rows, "prediction"], before.loc[rows, "prediction"], atol=1e-3
    )  # float32, labels of 50
    assert np.abs(after["prediction"] - before["prediction"]).max() > 1


def killed_fit(path: Path, folder: Path, n_runs: int, seconds: float) -> None:
    """Start a fit in a process of its own, and kill it some seconds after there are some runs,
    whatever it does then.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=fit, args=(path,)
    )  # a fork would share its threads' locks
    process.start()
    give_up = time.monotonic() + 60
    while (
        len(list(folder.glob("runs/**/run.json"))) < n_runs
        and process.is_alive()
        and time.monotonic() < give_up
    ):
        time.sleep(0.002)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_killed_at_random_moments_a_fit_goes_on_and_ends_with_the_same_numbers(
    tmp_path: Path,
) -> None:
    whole = make_experiment(tmp_path / "whole", names=NAMES, splits=["area", "random"])
    fit(whole)
    rng = np.random.default_rng()
    path = make_experiment(tmp_path / "killed", names=NAMES, splits=["area", "random"])
    folder, kept = change(path).folder, {}
    for n_runs in (1, 5, 11):
        killed_fit(path, folder, n_runs, rng.uniform(0, 0.05))
        assert {
            p: p.stat().st_mtime_ns for p in kept
        } == kept  # what was finished is not done again
        kept = {p: p.stat().st_mtime_ns for p in folder.glob("runs/**/run.json")}
    fit(path)
    runs = sorted(
        p.relative_to(change(whole).folder)
        for p in change(whole).folder.glob("runs/**/predictions.parquet")
    )
    assert len(runs) == 12
    for run in runs:
        pd.testing.assert_frame_equal(
            pd.read_parquet(folder / run), pd.read_parquet(change(whole).folder / run)
        )
    assert not list(folder.rglob("*.partial"))
    one, other = (read_scores(change(p).folder).drop(columns="fit_seconds") for p in (whole, path))
    pd.testing.assert_frame_equal(one, other)


def test_without_features_the_error_says_so(tmp_path: Path) -> None:
    path = make_experiment(tmp_path)
    (change(path).folder / "features/net.h5").unlink()
    with pytest.raises(ValueError, match="make features"):
        fit_all(change(path))


def test_labels_that_differ_in_an_area_end_the_fit_before_it_begins(tmp_path: Path) -> None:
    path = make_experiment(tmp_path)
    write_table(tmp_path, income=np.arange(N) * 1.0)
    path.write_text(path.read_text().replace('accept = ["labels-differ"]\n', ""))
    with pytest.raises(ValueError, match="Nothing was fitted"):
        fit(path)
    assert not (change(path).folder / "runs").exists()


def test_a_target_without_labels_to_learn_from_is_named_with_the_folds(tmp_path: Path) -> None:
    path = make_experiment(
        tmp_path, names=["mean", "ridge", "stack"], accept=["labels-differ", "missing-labels"]
    )
    write_table(tmp_path, health=np.where(np.arange(N) < 12, np.arange(N) // 4, np.nan))
    with pytest.raises(
        ValueError,
        match=r"ridge: target 'health': without folds \d and \d no label is left.*take stack out",
    ):
        fit(path)


@pytest.fixture
def fitted(tmp_path: Path) -> Path:
    path = make_experiment(tmp_path, names=["mean", "ridge", "ridge+groups@area", "region"])
    fit(path)
    return path


def kept(path: Path) -> dict[str, Path]:
    found = {}
    for file in change(path).folder.glob("models/**/model.json"):
        facts = json.loads(file.read_text())
        found["/".join((facts["target"], facts["cut"], facts["model"]))] = file.parent
    return found


def test_a_kept_model_says_how_it_is_fed_and_how_good_it_is(fitted: Path) -> None:
    fit(fitted, keep=["ridge+groups@area", "region"])
    folder = kept(fitted)["income/net/last:avg/ridge+groups@area"]
    facts = json.loads((folder / "model.json").read_text())
    assert facts["feed"]["group_columns"] == ["district"]
    assert facts["feed"]["pooling"] == ["mean", "sd"]
    assert "district=D0" in " ".join(facts["feed"]["names"])
    assert facts["scores"][0]["r2"] == pytest.approx(
        of(fitted, level="area").loc["ridge+groups@area", "r2"]
    )
    assert facts["training"]["labels_sha256"]
    region = json.loads((kept(fitted)["income/none/region"] / "model.json").read_text())["feed"]
    assert (region["group_columns"], sorted(region["values"])) == (
        ["district"],
        ["D0", "D1", "D2", "D3"],
    )
    load_model(folder)


def test_a_kept_model_of_areas_pools_whole_areas_on_the_random_split(tmp_path: Path) -> None:
    path = make_experiment(tmp_path / "made", names=["ridge@area"], splits=["random"])
    fit(path)
    assert {
        json.loads((p / "model.json").read_text())["training"]["n_rows"]
        for p in kept(path).values()
    } == {25}


def test_a_kept_model_that_was_changed_is_refused(fitted: Path) -> None:
    folder = kept(fitted).popitem()[1]
    file = next(p for p in folder.iterdir() if p.name != "model.json")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(RunFileError, match="not the file that `make models` wrote"):
        load_model(folder)


def test_what_is_no_longer_kept_is_removed_and_the_rest_not_refitted(fitted: Path) -> None:
    assert len(kept(fitted)) == 2
    # fitted again, since the intervals of a model that was not chosen are those of its own errors
    fit(fitted, keep="all")
    before = {name: (path / "model.json").stat().st_mtime_ns for name, path in kept(fitted).items()}
    assert len(before) == 8
    fit(fitted, keep=["mean"])
    after = {name: (path / "model.json").stat().st_mtime_ns for name, path in kept(fitted).items()}
    assert after == {name: before[name] for name in ("health/none/mean", "income/none/mean")}


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    return done.output


def test_a_dry_run_prints_the_plan_and_changes_nothing(fitted: Path) -> None:
    write_table(fitted.parent, health=np.arange(N) // 4 * 1.5)
    change(fitted, names=["mean", "ridge", "knn"])
    before = {p: p.stat().st_mtime_ns for p in change(fitted).folder.rglob("*")}
    said = run("fit", "--dry-run", "--config", fitted)
    assert "2 cells stale: the labels of health changed" in said
    assert "2 cells done, 2 stale, 4 to fit in 3 runs." in said
    assert "with 1 worker, by the runs in this folder." in said
    assert "Unknown how long: knn; nothing like it was fitted here yet." in said
    assert "Nothing was fitted." in said
    assert before == {p: p.stat().st_mtime_ns for p in change(fitted).folder.rglob("*")}


def test_the_list_shows_done_stale_missing_and_why(fitted: Path) -> None:
    write_table(fitted.parent, health=np.arange(N) // 4 * 1.5)
    change(fitted, columns=["income", "health", "crime"], names=["ridge"])
    row = next(line for line in run("list", "--config", fitted).splitlines() if "ridge" in line)
    assert row.split("\t")[:6] == ["area", "net/last:avg", "ridge", "1", "1", "1"]
    assert row.endswith("the labels of health changed")


def test_the_stages_after_the_fits_say_how_far_they_are(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    progress = FitProgress()
    progress.progress = lambda done, total: told.append((done, total))  # type: ignore[method-assign]
    fit_all(change(make_experiment(tmp_path)), progress)
    assert told == [(1, 2), (2, 2)] * 2  # two targets scored, two models kept


def test_the_display_shows_cells_and_the_best_so_far(tmp_path: Path) -> None:
    path = make_experiment(tmp_path, names=["mean", "ridge"])
    console = Console(force_terminal=True, width=120, record=True)
    with FitDisplay(console, "area") as display:
        fit_all(change(path), display)
    said = console.export_text()
    assert "cells 4/4" in said
    assert "ridge on net/last:avg" in said
    assert set(display.seconds) == {"plan", "audit", "fit", "score", "keep"}
    assert "keeping 2/2" in said
    assert [format_seconds(s) for s in (0.2, 80, 600, 9000, None)] == [
        "1 s",
        "80 s",
        "10 min",
        "2.5 h",
        "unknown",
    ]


def test_without_a_target_there_is_nothing_to_fit(tmp_path: Path) -> None:
    path = make_experiment(tmp_path)
    settings = read_settings(path, FitSettings)
    bare = settings.model_copy(
        update={"targets": settings.targets.model_copy(update={"columns": []})}
    )
    with pytest.raises(ValueError, match="nothing to predict; name at least one column"):
        fit_all(bare)
