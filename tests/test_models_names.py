"""Targets, cuts and tiles whose names are no names of files."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_experiment import N_AREAS, N, change, fit, make_experiment, write_features, write_table
from typer.testing import CliRunner

from extract.files.names import decode_name
from models.cli import app
from models.store.kept_models import list_kept, model_folder
from models.store.runs import read_predictions, read_run, run_folder

TARGETS = ["pop/km2", "pop", "POP", "../../x", "{abs}", "con"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Targets of hostile names; all embeddings tell all of them, by one column each."""
    folder = tmp_path_factory.mktemp("names") / "a" / "b"
    folder.mkdir(parents=True)
    path = make_experiment(folder)
    targets = [one.format(abs=folder.parent / "abs") for one in TARGETS]
    rng = np.random.default_rng(5)
    area = np.arange(N) // (N // N_AREAS)
    write_table(folder, **{target: rng.normal(size=N_AREAS)[area] for target in targets})
    (folder.parent / "x" / "net").mkdir(parents=True)
    (folder.parent / "x" / "net" / "precious").write_text("mine")
    (folder / "out").rename(folder / "unused")
    settings = change(path, columns=targets, names=["mean", "ridge"], keep="all", weights="tile")
    write_features(settings)
    before = list_files(folder.parent)
    fit(path)
    return path, targets, before


def list_files(root):
    return {p for p in root.rglob("*") if "out" not in p.relative_to(root).parts}


def test_nothing_is_written_or_deleted_outside_of_the_folder(path):
    path, _, before = path
    assert list_files(path.parent.parent) == before
    assert (path.parent.parent / "x" / "net" / "precious").read_text() == "mine"


def test_every_target_has_its_own_models(path):
    path, targets, _ = path
    folder = change(path).folder
    assert {decode_name(p.name) for p in (folder / "models").iterdir()} == set(targets)
    for target in targets:
        kept = list_kept(folder, target)
        assert [one.facts["target"] for one in kept] == [target] * 2
        assert {one.path for one in kept} == {
            model_folder(folder, target, "net/last:avg", "ridge"),
            model_folder(folder, target, "none", "mean"),
        }


def test_predict_answers_with_the_model_of_the_target_that_is_asked_for(path):
    path, targets, _ = path
    folder = change(path).folder
    table = pd.read_csv(path.parent / "t.csv")
    for target in targets:
        args = ["predict", "--config", str(path), "--target", target, "--model", "ridge"]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 0, done.output
        (found,) = [p for p in (folder / "predictions").iterdir() if decode_name(p.name) == target]
        assert json.loads((found / "predict.json").read_text())["target"] == target
        predicted = pd.read_csv(found / "predictions.csv")["prediction"]
        known = predicted.notna()
        # fitted on these tiles: the mean is that of the target's own labels
        assert predicted[known].mean() == pytest.approx(table[target][known].mean(), abs=1e-6)
    assert list_files(path.parent.parent) == list_files(path.parent.parent)


def test_a_model_in_the_folder_of_another_target_is_refused(tmp_path):
    path = make_experiment(tmp_path)
    fit(path)
    folder = change(path).folder
    (folder / "models/income").rename(folder / "models/other")
    (folder / "models/health").rename(folder / "models/income")
    args = ["predict", "--config", str(path), "--target", "income"]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 1
    assert "'health'" in done.output
    assert "Run `make models` again" in done.output.replace("\n", " ")
    fit(path)
    assert CliRunner().invoke(app, args).exit_code == 0


def test_a_run_in_the_folder_of_another_is_refused(tmp_path):
    path = make_experiment(tmp_path, cuts=["net/last:avg", "net/first:avg"])
    fit(path)
    folder = change(path).folder
    one = run_folder(folder, "area", "net/last:avg", "ridge")
    other = run_folder(folder, "area", "net/first:avg", "ridge")
    one.rename(tmp_path / "aside")
    other.rename(one)
    with pytest.raises(ValueError, match="says that it is of the cut 'net/first:avg'"):
        read_run(folder, "area", "net/last:avg", "ridge")


def test_runs_of_an_older_layout_are_moved_and_not_fitted_again(tmp_path):
    path = make_experiment(tmp_path)
    fit(path)
    folder = change(path).folder
    new = run_folder(folder, "area", "net/last:avg", "ridge")
    assert new.relative_to(folder) == Path("runs/area/net/last%3Aavg/ridge")
    old = folder / "runs/area/net/last:avg/ridge"
    old.parent.mkdir()
    before = read_predictions(folder, "area", "net/last:avg", "ridge")
    new.rename(old)
    assert not fit(path).fitted
    assert not old.exists()
    pd.testing.assert_frame_equal(read_predictions(folder, "area", "net/last:avg", "ridge"), before)
