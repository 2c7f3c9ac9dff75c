"""Any estimator that the settings name is fitted, chosen, kept and refused as a family is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from made_experiment import change, fit, make_experiment
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

from extract.errors import FitError, RunFileError, SettingsError
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.data.model_names import check_model
from models.execution.keep_models import open_kept
from models.families.estimator_classes import check_trusted, find_class, read_versions
from models.families.estimator_settings import EstimatorSection
from models.families.estimators import Estimator
from models.families.family import Family
from models.store.kept_models import find_kept, load_model, save_model
from models.store.runs import read_run

RNG = np.random.default_rng(0)
N = 200
AREA = np.repeat(np.arange(50), 4)
SIGNAL = RNG.normal(size=N)
X = (SIGNAL[:, None] * np.ones(4) + 0.5 * RNG.normal(size=(N, 4))).astype(np.float32)
X[:, 3] *= 100
Y = np.column_stack([SIGNAL, 5 - 2 * SIGNAL])
CODES = np.digitize(SIGNAL, [-0.5, 0.5])
SHARES = np.eye(3)[CODES]
FOLDS = build_folds(
    "area",
    assign_folds("area", area=AREA, xy=None, targets=None, n_folds=4, seed=0, block_m=1),
    area=AREA,
    xy=None,
    block_m=1,
    buffer_m=0,
)
INNER = list(FOLDS.splits())
WEIGHT = RNG.uniform(0.5, 1.5, N)
GRID: dict[str, list[Any]] = {"C": [0.01, 1.0, 100.0], "gamma": [0.01, 0.1]}
MODULE = '''
import numpy as np

class Nearest:
    """Predicts the label of the nearest training row; holds a function, which no file should."""

    def __init__(self, power=2):
        self.power = power

    def fit(self, X, y):
        self.rows, self.labels = X, y
        self.ask = lambda row: self.labels[(np.abs(self.rows - row) ** self.power).sum(1).argmin()]
        return self

    def predict(self, X):
        return np.array([self.ask(row) for row in X])

class Broken(Nearest):
    def predict(self, X):
        return np.full(len(X), np.nan)

class Failing(Nearest):
    def fit(self, X, y):
        raise RuntimeError("no\\nluck")

def not_a_class():
    pass
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the module of a user, which no installed package holds."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def fit_on(model: Family, labels: Any, weight: Any = None) -> Family:
    return model.fit(
        Features(X), labels, folds=FOLDS, weight=np.ones(N) if weight is None else weight
    )


def test_a_choice_equals_grid_search() -> None:
    model = fit_on(Estimator("sklearn.svm.SVR", grid=GRID, scale=True), Y)
    grid = {f"svr__{name}": values for name, values in GRID.items()}
    for t in range(2):
        theirs = GridSearchCV(
            make_pipeline(StandardScaler(), SVR()),
            grid,
            cv=INNER,
            scoring="neg_mean_squared_error",
        ).fit(X, Y[:, t])
        chosen = {f"svr__{name}": value for name, value in model.chosen_[t].items()}
        assert chosen == theirs.best_params_
        assert chosen["svr__C"] > 0.01
        np.testing.assert_allclose(
            model.predict(Features(X))[:, t], theirs.predict(X), rtol=1e-5, atol=1e-5
        )


def test_lightgbm_equals_grid_search() -> None:
    params = {"n_estimators": 20}
    grid = {"num_leaves": [3, 31]}
    model = fit_on(Estimator("lightgbm.LGBMRegressor", params=params, grid=grid, n_jobs=1), Y)
    theirs = GridSearchCV(
        LGBMRegressor(**params, random_state=0, n_jobs=1, verbosity=-1),
        grid,
        cv=INNER,
        scoring="neg_mean_squared_error",
    ).fit(X, Y[:, 1])
    assert model.chosen_[1] == theirs.best_params_
    np.testing.assert_allclose(model.predict(Features(X))[:, 1], theirs.predict(X))


def test_a_choice_of_a_classifier_equals_grid_search() -> None:
    grid = {"num_leaves": [2, 15], "n_estimators": [1, 30]}
    model = fit_on(Estimator(classes="lightgbm.LGBMClassifier", grid=grid, task="class"), SHARES)
    theirs = GridSearchCV(
        LGBMClassifier(random_state=0, verbosity=-1), grid, cv=INNER, scoring="balanced_accuracy"
    ).fit(X, CODES)
    assert model.chosen_ == [theirs.best_params_]
    np.testing.assert_allclose(model.predict(Features(X)), theirs.predict_proba(X), atol=1e-12)


def test_missing_labels_and_weights_are_those_of_scikit_learn() -> None:
    labels = Y.copy()
    labels[::3, 1] = np.nan
    params = {"max_iter": 20}
    name = "sklearn.ensemble.HistGradientBoostingRegressor"
    predicted = fit_on(Estimator(name, params=params), labels, WEIGHT).predict(Features(X))
    for t in range(2):
        known = np.isfinite(labels[:, t])
        theirs = HistGradientBoostingRegressor(**params, random_state=0)
        theirs.fit(X[known], labels[known, t], sample_weight=WEIGHT[known])
        np.testing.assert_allclose(predicted[:, t], theirs.predict(X))


def test_a_class_that_no_training_row_has_gets_nothing_and_one_alone_everything() -> None:
    two = np.column_stack([SHARES[:, 0], np.zeros(N), 1 - SHARES[:, 0]])
    model = Estimator(classes="lightgbm.LGBMClassifier", task="class")
    predicted = fit_on(model, two).predict(Features(X))
    assert (predicted[:, 1] == 0).all()
    theirs = LGBMClassifier(random_state=0, verbosity=-1).fit(X, (CODES > 0).astype(int))
    np.testing.assert_allclose(predicted[:, [0, 2]], theirs.predict_proba(X), atol=1e-12)
    one = np.column_stack([np.zeros(N), np.ones(N)])
    np.testing.assert_array_equal(fit_on(model.fresh(), one).predict(Features(X)), one)


def test_a_classifier_without_probabilities_is_calibrated(tmp_path: Path) -> None:
    section = EstimatorSection(classes="sklearn.svm.SVC", scale=True)
    model = fit_on(section.build(seed=0, task="class"), SHARES)
    predicted = model.predict(Features(X))
    np.testing.assert_allclose(predicted.sum(axis=1), 1)
    plain = SVC().fit(StandardScaler().fit_transform(X), CODES)
    same = predicted.argmax(axis=1) == plain.predict(StandardScaler().fit_transform(X))
    assert same.mean() > 0.9
    save_model(tmp_path / "kept", "svc", model, {"task": "class"})
    loaded = load_model(tmp_path / "kept", {"svc": section})
    np.testing.assert_array_equal(loaded.predict(Features(X)), predicted)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lightgbn.LGBMRegressor", "none of sklearn.*Did you mean 'lightgbm'"),
        ("os.system", r'Set trust = \["os"\] in \[models\]'),
        ("SVR", "a class with its module, as 'sklearn.svm.SVR'"),
        ("sklearn.svm.", "a class with its module"),
    ],
)
def test_a_class_of_a_package_that_nobody_trusts_is_not_imported(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_trusted(name, ())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "catboost.CatBoostRegressor",
            "catboost is not installed here. Run `pip install catboost`",
        ),
        ("sklearn.svm.SVRR", "sklearn.svm has no 'SVRR'. Did you mean 'SVR'"),
        ("sklearn.svn.SVR", "cannot be imported"),
        ("sklearn.metrics.r2_score", "not an estimator; expected a class with the methods fit"),
        ("sklearn.preprocessing.StandardScaler", "not an estimator"),
    ],
)
def test_what_cannot_be_imported_says_so(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_class(name)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"params": {"n_estimatrs": 9}}, "params: .* has no parameter 'n_estimatrs'. Did you mean 'n_estimators'"),
        ({"grid": {"num_leavs": [3]}}, "grid: .* has no parameter 'num_leavs'. Did you mean 'num_leaves'"),
        ({"estimator": "sklearn.svm.SVR", "params": {"penalty": 9}}, "has no parameter 'penalty'"),
        ({"estimator": "lightgbm.LGBMClassifier"}, "is a classifier, .* write it as classes"),
        ({"classes": "sklearn.svm.SVR"}, "is a regressor, .* write it as estimator"),
    ],
)  # fmt: skip
def test_parameters_that_do_not_exist_are_refused(section: dict[str, Any], message: str) -> None:
    asked = {"estimator": "lightgbm.LGBMRegressor", **section}
    with pytest.raises(ValueError, match=message):
        EstimatorSection(**asked).check_installed(is_weighted=False)


def test_names_that_a_class_hands_on_are_taken() -> None:
    for name, params in (
        ("lightgbm.LGBMRegressor", {"extra_trees": True}),
        ("xgboost.XGBRegressor", {"max_depth": 3, "device": "cpu"}),
    ):
        EstimatorSection(estimator=name, params=params).check_installed(is_weighted=True)


SVR_TEXT = """
[models.estimators.svr]
estimator = "sklearn.svm.SVR"
scale = true
grid = { C = [0.1, 10.0] }
"""


def experiment(folder: Path, sections: str, **models: Any) -> Path:
    path = make_experiment(folder)
    text = path.read_text().replace('names = ["mean", "ridge"]\n', "")
    keys = "".join(f"{key} = {json.dumps(value)}\n" for key, value in models.items())
    path.write_text(text + keys + sections)
    return path


def test_every_feed_is_fitted_stacked_and_kept(tmp_path: Path) -> None:
    names = ["mean", "svr", "svr@area", "svr+pca:2", "svr+groups", "stack"]
    path = experiment(tmp_path, SVR_TEXT, names=names, keep="all")
    heard = fit(path)
    assert {model for _, _, model, _ in heard.fitted} == set(names)
    folder = change(path).folder
    run = read_run(folder, "area", "net/last:avg", "svr+pca:2")
    assert {one["C"] for one in run["chosen"]["income"].values()} <= {0.1, 10.0}
    assert run["versions"]["scikit-learn"]
    for name in names[1:-1]:
        kept = find_kept(folder, "income", model=name)
        assert open_kept(change(path), kept).chosen_[0]["C"] in (0.1, 10.0)
    assert fit(path).fitted == set()


def test_a_changed_grid_or_version_makes_its_cells_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = experiment(tmp_path, SVR_TEXT, names=["mean", "svr"], keep=["mean"])
    fit(path)
    path.write_text(path.read_text().replace("[0.1, 10.0]", "[0.1, 5.0]"))
    heard = fit(path)
    assert {model for _, _, model, _ in heard.fitted} == {"svr"}
    assert any("svr: grid" in note for note in heard.notes)
    monkeypatch.setattr(
        "models.families.estimator_settings.read_versions", lambda names: {"scikit-learn": "0.1"}
    )
    heard = fit(path)
    assert {model for _, _, model, _ in heard.fitted} == {"svr"}
    assert any("svr: scikit-learn" in note for note in heard.notes)


def test_a_class_of_ones_own_is_fitted_again_when_it_is_asked_for(tmp_path: Path, own: str) -> None:
    sections = f'trust = ["{own}"]\n[models.estimators.nearest]\nestimator = "{own}.Nearest"\n'
    path = experiment(tmp_path / "e", sections, names=["nearest"], keep="all", weights="tile")
    heard = fit(path)
    assert any("no file can hold it" in note for note in heard.notes)
    settings = change(path)
    kept = find_kept(settings.folder, "income", model="nearest")
    assert [file for file in kept.facts["files"] if file.startswith("estimator-")] == []
    model = open_kept(settings, kept)
    from models.execution.experiment_data import open_experiment

    design = open_experiment(settings).open_design(kept.cell, kept.facts["training"])
    np.testing.assert_array_equal(model.predict(design.X)[:, 0], design.Y[:, 0])
    version = read_versions([f"{own}.Nearest"])[own]
    assert read_run(settings.folder, *kept.cell.names)["versions"][own] == version


def test_a_stranger_names_nothing_that_is_imported(
    tmp_path: Path, own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = f'trust = ["{own}"]\n[models.estimators.nearest]\nestimator = "{own}.Nearest"\n'
    path = experiment(tmp_path / "e", sections, names=["nearest"], keep="all", weights="tile")
    fit(path)
    folder = find_kept(change(path).folder, "income", model="nearest").path
    sys.modules.pop(own)
    find_class.cache_clear()
    with pytest.raises(RunFileError, match=r"do not name.*write \[models.estimators.nearest\]"):
        load_model(folder)
    other = {"nearest": EstimatorSection(estimator="sklearn.svm.SVR")}
    with pytest.raises(RunFileError, match=f"kept as '{own}.Nearest', and the settings name"):
        load_model(folder, other)
    assert own not in sys.modules


def test_a_file_with_functions_or_another_class_is_refused(tmp_path: Path) -> None:
    import hashlib

    import skops.io
    from sklearn.metrics import r2_score
    from sklearn.preprocessing import FunctionTransformer

    from models.store.seal import seal

    section = EstimatorSection(estimator="sklearn.svm.SVR")
    folder = tmp_path / "kept"
    for evil, message in (
        (make_pipeline(FunctionTransformer(r2_score)), "r2_score, which is never written"),
        (SVC(), "holds a SVC"),
    ):
        save_model(folder, "svr", fit_on(section.build(seed=0, task="number"), Y[:, :1]), {})
        skops.io.dump(evil, folder / "estimator-0.skops")
        said = json.loads((folder / "model.json").read_text())
        del said["sha256"]
        data = (folder / "estimator-0.skops").read_bytes()
        said["files"]["estimator-0.skops"] = {
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
        }
        (folder / "model.json").write_text(json.dumps(seal(said)))
        with pytest.raises(RunFileError, match=message):
            load_model(folder, {"svr": section})


@pytest.mark.parametrize(
    ("kind", "message"),
    [("Failing", "RuntimeError: no luck"), ("Broken", "predicted NaN or infinity")],
)
def test_an_estimator_that_fails_is_named_in_one_line(
    tmp_path: Path, own: str, kind: str, message: str
) -> None:
    sections = f'trust = ["{own}"]\n[models.estimators.bad]\nestimator = "{own}.{kind}"\n'
    path = experiment(tmp_path / "e", sections, names=["bad"], weights="tile")
    with pytest.raises(
        FitError, match=rf"area net/last:avg bad: {own}.{kind}: .*{message}|{message}"
    ) as error:
        fit(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sections", "models", "message"),
    [
        ("[models.estimators.ridge]\nestimator = 'sklearn.svm.SVR'", {}, "'ridge' is a model of Roofline"),
        ("[models.estimators.svr]\nestimator = 'os.path.SVR'", {}, r"\[models.estimators.svr\] 'os.path.SVR': importing a class runs"),
        ("[models.estimators.svr]\nscale = true", {}, "expected a class as estimator"),
        ("[models.estimators.svr]\nestimater = 'sklearn.svm.SVR'", {}, "unknown key 'estimater'.*Did you mean 'estimator'"),
        ("[models.estimators.svr]\nestimator = 'sklearn.svm.SVR'\nparams = { C = 1 }\ngrid = { C = [1] }", {}, "'C' stands in params and in grid"),
        (SVR_TEXT, {"names": ["svrr"]}, r"\[models\] names: unknown model 'svrr'.*Did you mean 'svr'"),
    ],
)  # fmt: skip
def test_sections_that_cannot_be_used_are_refused(
    tmp_path: Path, sections: str, models: dict[str, Any], message: str
) -> None:
    path = experiment(tmp_path, sections, **models)
    with pytest.raises(SettingsError, match=message):
        change(path)


def test_weights_that_an_estimator_does_not_take_are_refused(tmp_path: Path) -> None:
    name = "sklearn.gaussian_process.GaussianProcessRegressor"
    sections = f'[models.estimators.gp]\nestimator = "{name}"\n'
    path = experiment(tmp_path, sections, names=["gp"], weights="area")
    with pytest.raises(FitError, match=r"models.estimators.gp\] .*takes no sample_weight"):
        fit(path)
    path.write_text(path.read_text().replace('["gp"]', '["gp@area"]'))
    assert len(fit(path).fitted) == 2


def test_an_estimator_without_classes_is_not_fitted_on_them(tmp_path: Path) -> None:
    path = experiment(tmp_path, SVR_TEXT, names=["mean", "svr"])
    text = path.read_text().replace(
        'columns = ["income", "health"]', 'columns = ["income"]\nclasses = ["district"]'
    )
    path.write_text(text.replace('groups = ["district"]\n', ""))
    fitted = {(model, target) for _, _, model, target in fit(path).fitted}
    assert fitted == {("mean", "income"), ("mean", "district"), ("svr", "income")}
    path.write_text(path.read_text().replace('columns = ["income"]\n', ""))
    with pytest.raises(
        FitError, match=r"'svr' predicts numbers, and none of the targets. Name a class as class"
    ):
        fit(path)


def test_the_names_of_estimators_are_known() -> None:
    assert check_model("svr+pca:8+groups@area", ["svr"]).family == "svr"
    with pytest.raises(ValueError, match="Did you mean 'svr'"):
        check_model("srv", ["svr"])


def test_the_page_of_the_documentation_is_the_example() -> None:
    root = Path(__file__).resolve().parents[1]
    page = (root / "docs/estimators.md").read_text(encoding="utf-8")
    example = (root / "examples/estimators.toml").read_text(encoding="utf-8")
    assert f"```toml\n{example}```" in page
