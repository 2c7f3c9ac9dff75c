"""Targets that are classes: every family as a classifier, what stands on disk, and how it is
scored.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_experiment
import numpy as np
import pandas as pd
import pytest
from made_experiment import N_AREAS, N, change, fit, make_experiment, write_features
from made_families import learning, mark_networks, quick
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import Normalizer, StandardScaler
from typer.testing import CliRunner

from extract.errors import FitError, SettingsError
from extract.settings import read_settings
from extract.tables.tile_table import read_tiles
from models.auditing.audit_file import read_audit
from models.cli import app
from models.data.classes import code_labels, commonest, list_classes, spread_classes
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.data.model_names import parse_model
from models.families.fit_results import CrossFit
from models.families.linear.ridge import SharedRidge
from models.families.nearest_neighbours import Neighbours
from models.families.params import check_params
from models.families.registry import BASELINES, FAMILIES, build_model
from models.families.trees.forest import ExtraTrees, Forest
from models.settings import FitSettings
from models.store.kept_models import load_model, save_model
from models.store.runs import read_classes, read_run, run_folder
from models.store.score_tables import read_scores

IMAGES_ONLY = (
    "cnn",
    "tail",
    "finetune",
)  # families that are fed with pictures: they have tests of their own
LEARNERS = [name for name in FAMILIES if name not in IMAGES_ONLY]
RNG = np.random.default_rng(0)
ROWS, CLASSES = 300, 4
AREA = np.repeat(np.arange(60), 5)
CODE = RNG.integers(0, CLASSES, ROWS)
X = (RNG.normal(size=(CLASSES, 20))[CODE] + RNG.normal(size=(ROWS, 20))).astype(np.float32)
GIVEN = {"region": (CODE % 2)[:, None].astype(float), "location": RNG.uniform(0, 1e4, (ROWS, 2))}
FOLDS = build_folds(
    "area",
    assign_folds("area", area=AREA, xy=None, targets=None, n_folds=4, seed=0, block_m=1),
    area=AREA,
    xy=None,
    block_m=1,
    buffer_m=0,
)
TRAIN = FOLDS.training(frozenset({0}))
Y = spread_classes(CODE, CLASSES)


def cross_fit(name: str, labels: np.ndarray = Y, **params: Any) -> CrossFit:
    model = build_model(parse_model(name), seed=3, task="class", params=quick(name) | params)
    return model.cross_fit(Features(GIVEN.get(name, X)), labels, folds=FOLDS, weight=np.ones(ROWS))


def fit_rows(model: Any, rows: np.ndarray = TRAIN) -> np.ndarray:
    fitted = model.fit(
        Features(X).rows(rows), Y[rows], folds=FOLDS.take(rows), weight=np.ones(len(rows))
    )
    predicted: np.ndarray = fitted.predict(Features(X))
    return predicted


@pytest.mark.parametrize("name", mark_networks([*LEARNERS, *BASELINES]))
def test_predictions_are_probabilities_and_absent_classes_have_none(name: str) -> None:
    labels = spread_classes(
        np.where(FOLDS.fold == 1, CODE, np.minimum(CODE, 2)), 5
    )  # 3 in fold 1 alone, 4 nowhere
    labels[:20] = np.nan
    cross = cross_fit(name, labels)
    assert (cross.predicted >= 0).all()
    np.testing.assert_allclose(cross.predicted.sum(axis=1), 1)
    np.testing.assert_allclose(cross.predicted[FOLDS.fold == 1, 3], 0, atol=1e-9)
    np.testing.assert_allclose(cross.predicted[:, 4], 0, atol=1e-9)
    assert sorted(cross.chosen[0]) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("name", mark_networks(LEARNERS))
def test_planted_classes_are_found_and_shuffled_ones_are_not(name: str) -> None:
    shuffled = np.random.default_rng(1).permutation(CODE)
    params = learning(name)
    found = cross_fit(name, **params).predicted.argmax(axis=1)
    lost = cross_fit(name, spread_classes(shuffled, CLASSES), **params).predicted
    assert balanced_accuracy_score(CODE, found) > 0.85
    assert abs(balanced_accuracy_score(shuffled, lost.argmax(axis=1)) - 1 / CLASSES) < 0.1


@pytest.mark.parametrize("name", mark_networks([*LEARNERS, *BASELINES]))
def test_a_kept_classifier_predicts_the_same(name: str, tmp_path: Path) -> None:
    model = build_model(parse_model(name), seed=3, task="class", params=quick(name))
    given = Features(GIVEN.get(name, X))
    model.fit(given, Y, folds=FOLDS, weight=np.ones(ROWS))
    save_model(tmp_path / "kept", name, model, {})
    np.testing.assert_allclose(
        load_model(tmp_path / "kept").predict(given), model.predict(given), atol=1e-6
    )


@pytest.mark.slow
def test_one_class_alone_is_certain() -> None:
    for name in LEARNERS:
        np.testing.assert_allclose(cross_fit(name, np.ones((ROWS, 1))).predicted, 1)


def test_ridge_predicts_what_ridge_classifier_predicts() -> None:
    scaler = StandardScaler().fit(X[TRAIN])
    for alpha in (0.1, 30.0, 3000.0):
        ours = fit_rows(SharedRidge(alphas=(alpha,), task="class")).argmax(axis=1)
        theirs = (
            RidgeClassifier(alpha=alpha)
            .fit(scaler.transform(X[TRAIN]), CODE[TRAIN])
            .predict(scaler.transform(X))
        )
        np.testing.assert_array_equal(ours, theirs)


def test_ridge_by_any_solver_chooses_one_penalty_for_all_classes() -> None:
    exact = cross_fit("ridge")
    iterated = cross_fit("ridge", exact_limit=10)
    np.testing.assert_allclose(iterated.predicted, exact.predicted, atol=1e-3)
    assert all(one == exact.chosen[0] for one in exact.chosen)


def test_neighbours_are_the_shares_of_k_neighbors_classifier() -> None:
    scaler = StandardScaler().fit(X[TRAIN])
    known, asked = (Normalizer().transform(scaler.transform(x)) for x in (X[TRAIN], X))
    theirs = KNeighborsClassifier(11).fit(known, CODE[TRAIN]).predict_proba(asked)
    ours = fit_rows(Neighbours(n_neighbors=(11,), weights=("uniform",), task="class"))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_uncentred_neighbours_search_the_l2_normalised_rows() -> None:
    raw = Normalizer()
    theirs = (
        KNeighborsClassifier(11)
        .fit(raw.transform(X[TRAIN]), CODE[TRAIN])
        .predict_proba(raw.transform(X))
    )
    model = Neighbours(
        n_neighbors=(11,), weights=("uniform",), standardise=False, centre=False, task="class"
    )
    np.testing.assert_allclose(fit_rows(model), theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "classifier"),
    [(Forest, RandomForestClassifier), (ExtraTrees, ExtraTreesClassifier)],
)
def test_forests_are_the_classifiers_of_scikit_learn(kind: type, classifier: type) -> None:
    ours = fit_rows(kind(n_estimators=30, max_features="sqrt", seed=5, task="class"))
    theirs = classifier(30, max_features="sqrt", random_state=5).fit(X[TRAIN], CODE[TRAIN])
    np.testing.assert_array_equal(ours, theirs.predict_proba(X))


def test_the_number_of_neighbours_is_that_of_the_highest_balanced_accuracy() -> None:
    model = Neighbours(n_neighbors=(1, 9, 60), metric="euclidean", task="class")
    fit_rows(model)
    scaled = model.X_
    inner = FOLDS.take(TRAIN)
    found = {}
    for k in (1, 9, 60):
        for weights in ("uniform", "distance"):
            truth, said = [], []
            for train, held in inner.splits():
                one = KNeighborsClassifier(k, weights=weights)
                one.fit(scaled[train], CODE[TRAIN][train])
                said.extend(one.predict_proba(scaled[held]).argmax(axis=1))
                truth.extend(CODE[TRAIN][held])
            found[k, weights] = balanced_accuracy_score(truth, said)
    chosen = model.chosen_[0]
    assert found[chosen["n_neighbors"], chosen["weights"]] == pytest.approx(max(found.values()))


def test_codes_follow_the_alphabet_and_the_first_of_equals_is_commonest() -> None:
    labels = pd.Series(["b", None, "a", "b", "c", "a"], dtype=object)
    assert list_classes(labels) == ["a", "b", "c"]
    assert code_labels(labels).tolist() == [1, -1, 0, 1, 2, 0]
    assert commonest(code_labels(labels), np.array([0, 1, 0, 0, 2, 2])).tolist() == [1, -1, 0]


def kinds() -> list[str]:
    """Label of each tile: what column 0 of the embedding tells, in three classes."""
    signal = made_experiment.read_signal()
    return np.array(["low", "mid", "top"])[
        np.digitize(signal, np.quantile(signal, [1 / 3, 2 / 3]))
    ].tolist()


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    def write(**models: Any) -> Path:
        path = make_experiment(tmp_path / "made", **models)
        labels = kinds()
        made_experiment.write_table(
            path.parent, kind=["" if i % 20 == 0 else label for i, label in enumerate(labels)]
        )
        path.write_text(
            path.read_text().replace(
                'columns = ["income", "health"]', 'columns = ["income", "kind"]'
            )
        )
        write_features(read_settings(path, FitSettings))
        return path

    return write


def test_classes_stand_beside_numbers_and_each_row_is_told(made: Callable[..., Path]) -> None:
    path = made(names=["mean", "ridge", "ridge@area", "stack"])
    fit(path)
    folder = read_settings(path, FitSettings).folder
    frame = read_classes(folder, "area", "net/last:avg", "ridge")
    assert list(frame) == ["id", "fold", "target", "truth", "prediction", "probability"]
    assert set(frame["truth"].dropna()) == {"low", "mid", "top"}
    assert frame["truth"].isna().sum() == 5
    names = read_run(folder, "area", "net/last:avg", "ridge")["cells"]["kind"]["classes"]
    assert frame["prediction"].tolist() == [names[np.argmax(p)] for p in frame["probability"]]
    numbers = pd.read_parquet(
        run_folder(folder, "area", "net/last:avg", "ridge") / "predictions.parquet"
    )
    assert set(numbers["target"]) == {"income"}
    assert set(read_run(folder, "area", "all", "stack")["cells"]) == {"income"}


def test_scores_of_classes_equal_scikit_learns(made: Callable[..., Path]) -> None:
    path = made(names=["mean", "ridge"])
    fit(path)
    folder = read_settings(path, FitSettings).folder
    frame = read_classes(folder, "area", "net/last:avg", "ridge").dropna(subset=["truth"])
    truth, probability = frame["truth"], np.stack(frame["probability"].to_list())
    scores = read_scores(folder)
    row = scores[
        (scores["target"] == "kind") & (scores["model"] == "ridge") & (scores["level"] == "tile")
    ].iloc[0]
    assert row["n"] == len(frame) == 94  # of 100, 5 have no label and 1 no picture
    assert row["accuracy"] == pytest.approx(accuracy_score(truth, frame["prediction"]))
    assert row["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth, frame["prediction"])
    )
    assert row["f1_macro"] == pytest.approx(f1_score(truth, frame["prediction"], average="macro"))
    assert row["log_loss"] == pytest.approx(log_loss(truth, probability), abs=1e-4)
    assert row["balanced_accuracy_low"] < row["balanced_accuracy"] < row["balanced_accuracy_high"]
    assert row[["r2", "rmse", "mse", "spearman"]].isna().all()
    majority = scores[
        (scores["target"] == "kind") & (scores["model"] == "mean") & (scores["level"] == "tile")
    ].iloc[0]
    assert majority["balanced_accuracy"] < 0.5 < row["balanced_accuracy"]


def test_an_area_is_its_most_frequent_class(made: Callable[..., Path]) -> None:
    path = made(names=["ridge", "ridge@area"])
    fit(path)
    scores = read_scores(read_settings(path, FitSettings).folder)
    scores = scores[(scores["target"] == "kind")]
    assert scores["level"].tolist() == ["tile", "area", "area"]  # ridge@area has no tiles
    assert (scores.loc[scores["level"] == "area", "n"] == N_AREAS).all()


def test_a_second_fit_fits_nothing_and_a_new_label_its_target_alone(
    made: Callable[..., Path],
) -> None:
    path = made(names=["mean", "ridge", "stack"])
    assert {cell[3] for cell in fit(path).fitted} == {"income", "kind"}
    assert not fit(path).fitted
    table = pd.read_csv(path.parent / "t.csv", keep_default_na=False)
    table.loc[7, "kind"] = "other"
    table.to_csv(path.parent / "t.csv", index=False)
    assert fit(path).fitted == {
        ("area", "none", "mean", "kind"),
        ("area", "net/last:avg", "ridge", "kind"),
    }


def test_classes_alone_are_an_experiment(made: Callable[..., Path]) -> None:
    path = made()
    path.write_text(path.read_text().replace('columns = ["income", "kind"]', 'classes = ["kind"]'))
    fit(
        path,
        names=[
            "mean",
            "location",
            "region",
            "geodemographic",
            "ridge+pca:2",
            "ridge+groups",
            "knn@area",
            "stack",
        ],
        splits=["random", "area", "block"],
        block_m=400,
    )
    folder = read_settings(path, FitSettings).folder
    assert not list(folder.glob("runs/**/predictions.parquet"))
    assert not (folder / "runs/area/all").exists()
    scores = read_scores(folder)
    assert len(scores[(scores["level"] == "area")]) == 3 * 7
    kept = list(folder.glob("models/kind/**/model.json"))
    assert len(kept) == 1


def test_the_command_line_ranks_classes(made: Callable[..., Path]) -> None:
    path = made(names=["mean", "ridge"])
    fit(path)
    result = CliRunner().invoke(app, ["scores", "--config", str(path), "--target", "kind"])
    assert result.exit_code == 0, result.output
    heading = result.stdout.splitlines()[0].split("\t")
    assert heading[:2] == ["cut", "model"]
    assert {"balanced_accuracy", "log_loss", "verdict"} <= set(heading)
    assert "Pictures against place: ridge (net/last:avg) less mean: 0." in " ".join(
        result.output.split()
    )
    assert "mean" in result.output
    table = (
        CliRunner()
        .invoke(app, ["scores", "--config", str(path), "--target", "kind", "--csv"])
        .output
    )
    assert table.splitlines()[1].startswith("net/last:avg,ridge,False")
    assert [line.rsplit(",", 1)[1] for line in table.splitlines()] == ["verdict", "best", "worse"]


def test_one_class_and_mixed_areas_are_findings(made: Callable[..., Path]) -> None:
    path = made(names=["mean"])
    table = pd.read_csv(path.parent / "t.csv", keep_default_na=False)
    table.assign(kind="low").to_csv(path.parent / "t.csv", index=False)
    fit(path)
    folder = read_settings(path, FitSettings).folder
    assert "kind: low" in str(
        [f.examples for f in read_audit(folder)["findings"] if f.code == "constant-target"]
    )
    mixed = np.array(["a", "b"])[np.arange(N) % 2]
    table.assign(kind=mixed).to_csv(path.parent / "t.csv", index=False)
    change(path, accept=[])
    fit(path)
    assert [f.severity for f in read_audit(folder)["findings"] if f.code == "labels-differ"] == [
        "warning"
    ]


def test_parameters_of_a_family_are_checked_and_part_of_the_key(made: Callable[..., Path]) -> None:
    path = made(names=["ridge", "knn"])
    fit(path)
    path.write_text(path.read_text() + "[models.params.knn]\nn_neighbors = 11\n")
    assert {cell[2] for cell in fit(path).fitted} == {"knn"}
    chosen = read_run(read_settings(path, FitSettings).folder, "area", "net/last:avg", "knn")[
        "chosen"
    ]["kind"]
    assert {one["n_neighbors"] for one in chosen.values()} == {11}
    path.write_text(path.read_text().replace("n_neighbors", "n_neighbor"))
    with pytest.raises(
        SettingsError, match=r"knn: unknown parameter 'n_neighbor'.*Did you mean 'n_neighbors'"
    ):
        read_settings(path, FitSettings)


@pytest.mark.parametrize(
    ("family", "params", "message"),
    [
        ("forrest", {}, "Did you mean 'forest'"),
        ("forest", {"n_estimators": "many"}, "forest.n_estimators: .*got 'many'"),
        ("forest", {"seed": 1}, "unknown parameter 'seed'"),
        ("knn", {"metric": "cosin"}, "knn.metric: "),
    ],
)
def test_wrong_parameters_say_what_is_known(
    family: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_params(family, params)


def test_folds_hold_about_as_many_areas_of_each_class(made: Callable[..., Path]) -> None:
    path = made(names=["mean"], splits=["area"])
    fit(path)
    settings = read_settings(path, FitSettings)
    fold = pd.read_parquet(settings.folder / "folds.parquet")["fold"].to_numpy()
    counts = pd.crosstab(fold, read_tiles(settings).classes["kind"])
    assert (counts.max() - counts.min() <= 5).all(), counts  # an area has 4 tiles


def test_logistic_fits_the_classes_alone_and_is_refused_where_there_is_none(
    made: Callable[..., Path], tmp_path: Path
) -> None:
    path = made(names=["ridge", "logistic", "stack"], folds=3)
    fit(path)
    folder = read_settings(path, FitSettings).folder
    assert list(read_run(folder, "area", "net/last:avg", "logistic")["cells"]) == ["kind"]
    numbers = make_experiment(tmp_path / "numbers", names=["logistic"])
    with pytest.raises(FitError, match="'logistic' predicts classes, and none of the targets"):
        fit(numbers)
