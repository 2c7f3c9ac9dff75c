"""Kept models predict the same in a new process, say where they come from, and are refused where
they were tampered with.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
import xgboost
from made_experiment import change, fit, make_experiment
from made_families import quick
from sklearn.linear_model import LinearRegression
from sklearn.tree._tree import Tree

from extract.errors import RunFileError
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.data.model_names import parse_model
from models.families.baselines import Mean
from models.families.family import Family
from models.families.registry import BASELINES, FAMILIES, build_model
from models.store.feature_origin import find_licence
from models.store.kept_models import (
    SCHEMA_VERSION,
    find_kept,
    load_model,
    model_folder,
    read_kept,
    save_model,
)
from models.store.seal import seal
from models.uncertainty.applicability import measure_applicability, read_applicability

N = 80
RNG = np.random.default_rng(0)
AREA = np.repeat(np.arange(20), 4)
XY = RNG.uniform(0, 1e4, (N, 2))
FOLDS = build_folds(
    "area",
    assign_folds("area", area=AREA, xy=XY, targets=None, n_folds=4, seed=0, block_m=1),
    area=AREA,
    xy=XY,
    block_m=1,
    buffer_m=0,
)
PICTURES = RNG.uniform(0, 255, (N, 12 * 12 * 3)).astype(np.float32)
GIVEN = {"region": (AREA % 5)[:, None].astype(float), "location": XY, "cnn": PICTURES}
X = RNG.normal(size=(N, 6)).astype(np.float32)
NETWORKLESS = [
    name for name in FAMILIES if name not in ("tail", "finetune")
]  # those go on with a network: their own tests
NAMES = [
    *BASELINES,
    *NETWORKLESS,
    "ridge+pca:3",
    "xgboost+pca:3",
    "head+pca:3",
    "knn+pca:3",
    "ridge@area",
    "forest+groups",
    "ridge+groups@area",
]
AGAIN = """
import sys
from pathlib import Path
import numpy as np
from models.data.features import Features
from models.store.kept_models import load_model
for name in sys.argv[2:]:
    folder = Path(sys.argv[1]) / name
    given = Features(np.load(f"{folder}.given.npy"), grid=(12, 12, 3) if name.endswith("cnn") else None)
    np.save(f"{folder}.again.npy", load_model(folder).predict(given))
"""


def feed(name: str) -> Any:
    return Features(GIVEN.get(name, X), grid=(12, 12, 3) if name == "cnn" else None)


def fit_one(name: str, task: str = "number") -> Family:
    Y = (
        X[:, :2] + 0.1 * RNG.normal(size=(N, 2))
        if task == "number"
        else np.eye(2)[(X[:, 0] > 0).astype(int)]
    )
    params = quick(parse_model(name).family)
    model = build_model(parse_model(name), seed=0, task=task, params=params)
    return model.fit(feed(name), Y, folds=FOLDS, weight=np.ones(N))


@pytest.mark.slow
def test_every_family_predicts_the_same_in_a_new_process(tmp_path: Path) -> None:
    predicted = {}
    of_numbers = [name for name in NAMES if name != "logistic"]
    for task, names in (("number", of_numbers), ("class", [*BASELINES, *NETWORKLESS])):
        for name in names:
            model, folder = fit_one(name, task), f"{task}/{name}"
            save_model(tmp_path / folder, name, model, {})
            np.save(f"{tmp_path / folder}.given.npy", GIVEN.get(name, X))
            predicted[folder] = model.predict(feed(name))
    subprocess.run([sys.executable, "-c", AGAIN, str(tmp_path), *predicted], check=True)
    for folder, values in predicted.items():
        np.testing.assert_allclose(
            np.load(f"{tmp_path / folder}.again.npy"), values, atol=1e-6, err_msg=folder
        )


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("head") / "kept"
    save_model(folder, "head", fit_one("head"), {})
    return folder


@pytest.fixture
def kept(kept_once: Path, tmp_path: Path) -> Path:
    """Return a copy of a kept head, to be changed."""
    return shutil.copytree(kept_once, tmp_path / "kept")


@pytest.fixture(scope="module")
def fitted_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ridge") / "town"
    fit(make_experiment(folder, names=["ridge"], keep="best"))
    return folder


@pytest.fixture
def town(fitted_once: Path, tmp_path: Path) -> Path:
    """Return the settings file of a copy of a fitted experiment, to be changed."""
    return shutil.copytree(fitted_once, tmp_path / "town") / "s.toml"


def say(folder: Path, **facts: Any) -> None:
    """Change what `model.json` says, and state its new hash, as whoever changed it could."""
    document = json.loads((folder / "model.json").read_text()) | facts
    del document["sha256"]
    (folder / "model.json").write_text(json.dumps(seal(document)))


def reseal(folder: Path, **facts: Any) -> None:
    """State hashes of what stands there now."""
    say(
        folder,
        **{
            "files": {
                p.name: {
                    "sha256": hashlib.sha256(p.read_bytes()).hexdigest(),
                    "bytes": p.stat().st_size,
                }
                for p in folder.iterdir()
                if p.name != "model.json"
            },
            **facts,
        },
    )


@pytest.mark.parametrize("name", ["../head.npz", "/etc/passwd", "a/b", "..", ""])
def test_names_that_climb_out_are_refused(kept: Path, name: str) -> None:
    files = json.loads((kept / "model.json").read_text())["files"]
    say(kept, files=files | {name: files["head.npz"]})
    with pytest.raises(RunFileError, match=r"outside its folder. Do not trust"):
        load_model(kept)


@pytest.mark.parametrize("files", [None, {}, [], {"head.npz": "abc"}, "x"])
def test_a_folder_that_states_no_hashes_is_refused(kept: Path, files: Any) -> None:
    say(kept, files=files)
    with pytest.raises(RunFileError, match="expected the files of the model with their hashes"):
        load_model(kept)


def test_a_value_in_model_json_that_was_changed_is_noticed(town: Path) -> None:
    folder = change(town).folder
    file = next((folder / "models/income").glob("**/model.json"))
    facts = json.loads(file.read_text())
    facts["intervals"]["tile"]["0.8"] *= 2
    file.write_text(json.dumps(facts))
    readers = (
        load_model,
        lambda kept: read_kept(folder, kept),
        lambda _: find_kept(folder, "income"),
    )
    for read in readers:
        with pytest.raises(
            RunFileError,
            match=r"model.json: changed since `make models` wrote it .*Do not trust this folder",
        ):
            read(file.parent)


def test_files_that_are_not_listed_and_links_are_refused(kept: Path) -> None:
    (kept / "model.skops").write_bytes(b"x")
    with pytest.raises(RunFileError, match=r"a file that model.json does not list"):
        load_model(kept)
    (kept / "model.skops").unlink()
    (kept / "head.npz").rename(kept.parent / "elsewhere.npz")
    (kept / "head.npz").symlink_to(kept.parent / "elsewhere.npz")
    with pytest.raises(RunFileError, match="not the file that `make models` wrote"):
        load_model(kept)


def rewrite(folder: Path, **members: bytes) -> None:
    """Put members in the place of those of the same name, and state the new hashes."""
    with zipfile.ZipFile(folder / "head.npz") as archive:
        old = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder / "head.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (old | {f"{name}.npy": data for name, data in members.items()}).items():
            archive.writestr(name, data)
    reseal(folder)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('it ran')",))


def test_arrays_with_pickled_objects_are_refused_and_nothing_runs(kept: Path) -> None:
    rewrite(kept, x_mean=npy(np.array([Evil(), 1], dtype=object)))
    with pytest.raises(RunFileError, match="objects, which are pickles"):
        load_model(kept)


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-6,)", "(6, -1)", "(7,)"])
def test_arrays_of_a_shape_that_they_have_not_are_refused(kept: Path, shape: str) -> None:
    head = npy(np.zeros(6, np.float32)).replace(b"(6,)", shape.encode())
    head = head[:8] + (len(head) - 10 - 24).to_bytes(2, "little") + head[10:]
    rewrite(kept, x_mean=head)
    with pytest.raises(RunFileError, match=r"no array of numbers \(the shape"):
        load_model(kept)


def test_a_bomb_is_refused_before_it_is_unpacked(kept: Path) -> None:
    rewrite(kept, x_mean=npy(np.zeros(1 << 26, np.float32)))
    with pytest.raises(RunFileError, match="bytes that unpack to"):
        load_model(kept)


def test_types_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "kept", "ridge", fit_one("ridge"), {})
    skops.io.dump({"a": Evil}, tmp_path / "kept" / "model.skops")
    reseal(tmp_path / "kept")
    with pytest.raises(RunFileError, match=r"holds .*Evil, which this project never writes"):
        load_model(tmp_path / "kept")


@pytest.mark.parametrize("what", [LinearRegression(), {"a": 1}, Mean()])
def test_a_model_of_another_kind_than_stated_is_refused(tmp_path: Path, what: Any) -> None:
    save_model(tmp_path / "kept", "ridge", fit_one("ridge"), {})
    skops.io.dump(what, tmp_path / "kept" / "model.skops")
    reseal(tmp_path / "kept")
    with pytest.raises(
        RunFileError,
        match=f"holds a {type(what).__name__}, and model.json says 'ridge'. Do not trust",
    ):
        load_model(tmp_path / "kept")


@pytest.mark.parametrize("child", [0, 10**9, -7])
def test_a_tree_that_leads_round_or_out_of_its_arrays_is_refused(
    tmp_path: Path, child: int
) -> None:
    forest = fit_one("forest")
    estimator = forest.forests_[0].estimators_[-1]
    state = estimator.tree_.__getstate__()
    state["nodes"]["left_child"][0] = child
    changed = Tree(estimator.n_features_in_, np.array([1]), 1)
    changed.__setstate__(state)
    estimator.tree_ = changed
    save_model(tmp_path / "kept", "forest", forest, {})
    with pytest.raises(RunFileError, match="a tree whose nodes do not lead downwards"):
        load_model(tmp_path / "kept")


@pytest.mark.parametrize(
    "members", [{"mean.npy": npy(np.zeros(3))}, {"mean": pickle.dumps(Evil())}, {}]
)
def test_an_area_of_applicability_that_is_none_is_refused(
    tmp_path: Path, members: dict[str, bytes]
) -> None:
    save_model(
        tmp_path / "kept",
        "ridge",
        fit_one("ridge"),
        {},
        applicability=measure_applicability(Features(X), np.arange(len(X))),
    )
    with zipfile.ZipFile(tmp_path / "kept" / "applicability.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    reseal(tmp_path / "kept")
    with pytest.raises(RunFileError, match=r"applicability.npz: .*Do not trust"):
        load_model(tmp_path / "kept") and read_applicability(tmp_path / "kept")


@pytest.mark.parametrize(
    "data", [pickle.dumps([1]), b"", b"PK\x03\x04" + bytes(64), b"PK\x05\x06" + bytes(18)]
)
def test_what_is_no_model_file_is_refused(tmp_path: Path, data: bytes) -> None:
    save_model(tmp_path / "kept", "ridge", fit_one("ridge"), {})
    (tmp_path / "kept" / "model.skops").write_bytes(data)
    reseal(tmp_path / "kept")
    with pytest.raises(RunFileError, match="kept"):
        load_model(tmp_path / "kept")


@pytest.mark.parametrize(
    "facts",
    [
        {"model": "evil"},
        {"model": None},
        {"model": "forest"},
        {"schema_version": "2"},
        {"schema": "x"},
    ],
)
def test_a_model_json_that_lies_is_refused(kept: Path, facts: dict[str, Any]) -> None:
    reseal(kept, **facts)
    with pytest.raises(RunFileError):
        load_model(kept)


@pytest.mark.parametrize("text", ["{}", '{"params": {"command": "rm"}, "chosen": []}', "null"])
def test_parameters_that_are_none_are_refused(kept: Path, text: str) -> None:
    (kept / "head.json").write_text(text)
    reseal(kept)
    with pytest.raises(RunFileError, match="not a model that this Roofline can read"):
        load_model(kept)


@pytest.mark.parametrize("child", [0, 10**6])
def test_a_boosted_tree_that_leads_round_or_out_of_its_arrays_is_refused(
    tmp_path: Path, child: int
) -> None:
    save_model(tmp_path / "kept", "xgboost", fit_one("xgboost"), {})
    booster = xgboost.Booster(model_file=tmp_path / "kept" / "booster-1.ubj")
    document = json.loads(booster.save_raw("json"))
    tree = next(
        one
        for one in document["learner"]["gradient_booster"]["model"]["trees"]
        if one["left_children"][0] > 0
    )
    tree["left_children"][0] = child
    booster.load_model(bytearray(json.dumps(document), "utf-8"))
    (tmp_path / "kept" / "booster-1.ubj").write_bytes(booster.save_raw("ubj"))
    reseal(tmp_path / "kept")
    with pytest.raises(RunFileError, match="a tree whose nodes do not lead downwards"):
        load_model(tmp_path / "kept")


def test_a_booster_that_is_none_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "kept", "xgboost", fit_one("xgboost"), {})
    (tmp_path / "kept" / "booster-0.ubj").write_bytes(b"{L\x00")
    reseal(tmp_path / "kept")
    with pytest.raises(ValueError, match=r"(?s)."):
        load_model(tmp_path / "kept").predict(Features(X))


def test_a_kept_model_carries_all_that_it_promises(tmp_path: Path) -> None:
    path = make_experiment(tmp_path, names=["mean", "ridge"], keep="all")
    fit(path)
    for cut, model, licence in (
        ("net/last:avg", "ridge", "none: random weights"),
        ("none", "mean", "none: no network was used"),
    ):
        folder = model_folder(change(path).folder, "income", cut, model)
        facts = json.loads((folder / "model.json").read_text())
        assert (facts["schema"], facts["schema_version"], facts["licence"]) == (
            "roofline.model",
            SCHEMA_VERSION,
            licence,
        )
        assert facts["settings"]["name"] == "x"
        assert facts["training"]["labels_sha256"]
        assert {row["level"] for row in facts["scores"]} == {"tile", "area"}
        assert all(len(one["sha256"]) == 64 for one in facts["files"].values())


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("feed", None, r"expected a dict as 'feed', got None.*Do not trust"),
        ("classes", "ab", "a list as 'classes', got 'ab'"),
        ("made", [], "expected a dict as 'made'"),
        ("schema_version", 5, r"kept by an older Roofline \(schema version 5\)"),
        ("schema_version", 99, "newer Roofline"),
        ("model", 7, "expected a str as 'model', got 7|none"),
    ],
)
def test_a_model_that_does_not_say_how_it_is_fed_is_refused(
    town: Path, name: str, value: Any, text: str
) -> None:
    folder = change(town).folder
    file = next((folder / "models/income").glob("**/model.json"))
    say(file.parent, **{name: value})
    with pytest.raises(ValueError, match=text):
        find_kept(folder, "income")


def test_a_model_kept_by_the_version_before_is_refused_and_fitted_again(town: Path) -> None:
    folder = change(town).folder
    file = next((folder / "models/income").glob("**/model.json"))
    say(file.parent, schema_version=6)
    refused = r"kept by an older Roofline \(schema version 6\)\. Run `make models` again"
    with pytest.raises(RunFileError, match=refused):
        find_kept(folder, "income")
    with pytest.raises(RunFileError, match=refused):
        load_model(file.parent)
    fit(town)
    assert read_kept(folder, file.parent).facts["schema_version"] == SCHEMA_VERSION
    assert find_kept(folder, "income").path == file.parent


@pytest.mark.parametrize(
    ("backbone", "weights", "licence"),
    [
        ("vgg16", "imagenet", "CC BY 4.0 (Visual Geometry Group"),
        ("resnet50", "imagenet", "MIT (Kaiming He"),
        ("resnet50v2", "imagenet", "BSD (Facebook"),
        ("mobilenetv2", "imagenet", "Apache"),
        ("xception", "imagenet", "MIT (Keras"),
        ("mobilenetv3small", "imagenet", "not known: Keras documents none"),
        ("vgg16", "mine.h5", "not known: ask who made mine.h5"),
        ("dinov2", "imported", "not known"),
        ("other", "imagenet", "not known"),
        ("vgg16", "random:3", "none"),
    ],
)
def test_licences_are_those_of_the_weights_and_not_guessed(
    backbone: str, weights: str, licence: str
) -> None:
    assert find_licence(backbone, weights).startswith(licence)
