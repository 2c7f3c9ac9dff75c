"""Numbers are shown of what was fitted, or not at all."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_experiment import change, fit, make_experiment, write_features, write_table
from typer.testing import CliRunner

import models.fit
from extract.errors import LockError, PlaceError
from extract.files.locks import locked, locked_to_read
from models.api import read_predictions
from models.cli import app as models_app
from models.store.runs import run_folder
from models.store.score_tables import read_scores
from reports.cli import app as reports_app

RUN = ("area", "net/last:avg", "ridge")
RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_experiment(tmp_path_factory.mktemp("fitted"))
    fit(path)
    return path


@pytest.fixture
def path(fitted: Path, tmp_path: Path) -> Path:
    """A copy of a fitted experiment, to be spoilt."""
    shutil.copytree(fitted.parent, tmp_path / "copy")
    return tmp_path / "copy" / "s.toml"


def run(command: str, path: Path) -> tuple[int, str]:
    """Return exit code and text of a command that shows numbers."""
    config = ["--config", str(path)]
    args = {
        "scores": ["scores", *config, "--target", "income"],
        "explain": ["explain", *config],
        "predict": ["predict", *config, "--target", "income"],
        "build": ["build", *config],
        "diff": ["diff", str(path), str(path)],
    }[command]
    done = CliRunner().invoke(reports_app if command in ("build", "diff") else models_app, args)
    return done.exit_code, " ".join(done.output.split())


SHOWING = ("scores", "build", "diff", "explain")


def check_refused(path: Path, *words: str) -> None:
    for command in SHOWING:
        code, said = run(command, path)
        assert code == 1, (command, said)
        for word in (*words, "make models"):
            assert word in said, (command, said)


@pytest.mark.parametrize("command", ["scores", "build", "diff"])
def test_what_was_fitted_is_shown(path, command):
    assert run(command, path)[0] == 0


def test_a_label_that_changed_is_named_and_the_old_scores_are_not_shown(path):
    write_table(path.parent, income=RNG.normal(size=100))
    check_refused(path, "the labels of income changed")
    write_table(path.parent)
    assert run("scores", path)[0] == 0


def test_other_areas_folds_features_and_parameters_are_named(path):
    change(path, folds=5)
    check_refused(path, "the folds of area changed")
    change(path, folds=4, seed=1)
    check_refused(path, "[models] seed changed")
    settings = change(path, seed=0)
    assert run("scores", path)[0] == 0
    write_features(settings, seed=2)
    check_refused(path, "embeddings of net/last:avg changed")


def test_a_fit_that_was_killed_before_scoring_is_named(path, monkeypatch):
    rng = np.random.default_rng(8)
    write_table(path.parent, income=np.repeat(rng.normal(size=25), 4))

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models.fit, "_score", die)
        with pytest.raises(KeyboardInterrupt):
            fit(path)
    check_refused(path, "the run area net/last:avg ridge is another than the one that was scored")
    fit(path)
    assert run("build", path)[0] == 0
    scores = read_scores(change(path).folder)
    row = scores.query("model == 'ridge' and target == 'income' and level == 'area'").iloc[0]
    predicted = pd.read_parquet(run_folder(change(path).folder, *RUN) / "predictions.parquet")
    predicted = predicted[predicted["target"] == "income"]
    areas = predicted.groupby(predicted["id"] // 4)[["truth", "prediction"]].mean()
    mse = ((areas["truth"] - areas["prediction"]) ** 2).mean()
    assert row["r2"] == pytest.approx(1 - mse / areas["truth"].var(ddof=0), abs=1e-6)


def test_a_run_that_is_not_scored_yet_is_named(path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(models.fit, "_score", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            fit(path, names=["mean", "ridge", "knn"])
    check_refused(path, "the run area net/last:avg knn is not scored yet")


def test_a_model_or_target_that_is_only_asked_for_changes_nothing(path):
    change(path, names=["mean", "ridge", "knn"], columns=["income", "health", "crime"])
    assert run("scores", path)[0] == 0
    code, said = run("build", path)
    assert code == 0, said


def test_while_a_fit_writes_nothing_is_shown(path):
    folder = change(path).folder
    with locked(folder):
        for command in (*SHOWING, "predict"):
            code, said = run(command, path)
            assert code == 1, (command, said)
            assert "is writing into it. Wait for it" in said
    assert run("scores", path)[0] == 0


def test_a_fit_waits_for_no_reader_but_says_so(tmp_path):
    with locked(tmp_path):
        pass
    refusal = pytest.raises(LockError, match="in use by another command, which reads it")
    with locked_to_read(tmp_path), locked_to_read(tmp_path), refusal, locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    "name", ["scores.csv", "comparisons.csv", "winners.csv", "scores_by_tiles.csv", "coverage.csv"]
)
def test_an_edited_table_is_not_shown(path, name):
    file = change(path).folder / name
    before = file.read_text()
    digit = next(i for i in reversed(range(len(before))) if before[i] in "12345678")
    file.write_text(before[:digit] + "9" + before[digit + 1 :])
    check_refused(path, name)
    fit(path)
    assert file.read_text() == before
    assert run("scores", path)[0] == 0


def test_an_edited_statement_is_not_believed(path):
    file = change(path).folder / "scores.json"
    before = file.read_text()
    file.write_text(before.replace('"seed": 0', '"seed": 1'))
    check_refused(path, "scores.json: changed since")
    fit(path)
    assert file.read_text() == before
    file.unlink()
    check_refused(path, "scores.json: no such file")


def test_an_edited_run_is_not_shown(path):
    folder = run_folder(change(path).folder, *RUN)
    before = (folder / "run.json").read_text()
    (folder / "run.json").write_text(before.replace('"seconds": 0', '"seconds": 7', 1))
    check_refused(path, "run.json: changed since")
    (folder / "run.json").write_text(before)
    frame = pd.read_parquet(folder / "predictions.parquet")
    frame.assign(prediction=frame["truth"]).to_parquet(folder / "predictions.parquet")
    for command in ("build", "diff"):
        code, said = run(command, path)
        assert code == 1
        assert "predictions.parquet: not the file that `make models` wrote" in said


def test_predictions_of_a_model_that_is_older_than_the_labels_are_marked(path):
    code, said = run("predict", path)
    assert code == 0
    assert "older than its data" not in said
    write_table(path.parent, income=RNG.normal(size=100))
    args = ["predict", "--config", str(path), "--target", "income"]
    done = CliRunner().invoke(models_app, [*args, "--out", str(path.parent / "other")])
    assert done.exit_code == 0
    said = " ".join(done.output.split())
    assert "the model is older than its data: the labels of income changed" in said


def test_edited_predictions_of_a_place_are_refused(path):
    assert run("predict", path)[0] == 0
    folder = change(path).folder / "predictions/income"
    areas = pd.read_csv(folder / "areas.csv", index_col="area")
    pd.testing.assert_frame_equal(read_predictions(path, "income", level="area"), areas)
    for name in ("predictions.csv", "predict.json", "areas.parquet"):
        before = (folder / name).read_bytes()
        (folder / name).write_bytes(before.replace(b"1", b"2", 1))
        code, said = run("predict", path)
        assert code == 1
        assert f"{name}: changed since it was written" in said
        if name != "predictions.csv":
            with pytest.raises(PlaceError, match=f"{name}: changed since it was written"):
                read_predictions(path, "income", level="area")
        (folder / name).write_bytes(before)
    assert run("predict", path)[0] == 0
