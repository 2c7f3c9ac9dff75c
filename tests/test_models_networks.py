"""Heads, tails and whole networks: one network a target, seeds, kept networks in new processes, and
what they look at.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_networks as made
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from extract.networks.registry import REGISTRY, Origin
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from models.cli import app
from models.data.features import Features
from models.data.folds import Folds
from models.explaining.explanations import explanation_folder, read_explanation
from models.families.networks.finetune import Finetune
from models.families.networks.head import Head
from models.families.networks.network_family import NetworkFamily
from models.families.networks.tail import Tail
from models.fit import fit_all
from models.settings import FitSettings
from models.store.kept_models import save_model

pytestmark = pytest.mark.slow
TINY = {
    '"mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"': '"tiny/relu2:map", "pixels/32:map"'
}
AGAIN = """import sys, numpy as np
from pathlib import Path
import made_networks
from models.data.features import Features
from models.store.kept_models import load_model
made_networks.register()
for kind in sys.argv[2:]:
    kept = Path(sys.argv[1]) / kind
    rows = np.load(f"{kept}.rows.npy")
    X = Features(rows.reshape(len(rows), -1), grid=rows.shape[1:])
    np.save(f"{kept}.out.npy", load_model(kept).predict(X))
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the weight file of the small network, which is one of the zoo meanwhile."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    made.write_tiny(path)
    made.register()
    yield str(path)
    del REGISTRY["tiny"]


def make(kind: str, weights: str, **params: Any) -> tuple[NetworkFamily, Features]:
    """Return a tail with maps, or a whole network with pictures."""
    family, layer = (Tail, "relu2") if kind == "tail" else (Finetune, "")
    rows = (
        np.random.default_rng(1).random((made.N, 8, 8, 8)) + made.SIGNAL[:, None, None, None]
        if layer
        else made.PICTURES
    )
    values = rows.reshape(made.N, -1).astype(np.float32)
    origin = Origin(backbone="tiny", layer=layer, size=made.SIDE, weights=weights)
    X = Features(values, grid=rows.shape[1:], origin=origin)
    return family(**{**made.PARAMS, "dropout": 0.3, **params}), X


def test_a_target_fitted_beside_others_is_the_one_fitted_alone() -> None:
    rng, n = np.random.default_rng(0), 240
    signal, folds = (
        rng.normal(size=(n, 2)),
        Folds(kind="random", part=np.arange(n) % 4, near=np.zeros((n, 0), bool)),
    )
    X = Features(np.hstack([signal, rng.normal(size=(n, 6))]).astype(np.float32))
    Y = np.column_stack(
        [
            signal[:, 0] + 0.3 * rng.normal(size=n),
            50 - 4 * signal[:, 1] ** 2,
            signal[:, 0] * signal[:, 1],
        ]
    )
    Y[::7, 2] = np.nan
    head, weight = Head(epochs=6), np.ones(n)
    together = head.fit(X, Y, folds=folds, weight=weight).predict(X)
    ended = head.chosen_
    for t in range(3):
        alone = head.fit(X, Y[:, [t]], folds=folds, weight=weight).predict(X)[:, 0]
        assert np.abs(together[:, t] - alone).max() < 1e-3 * np.nanstd(Y[:, t])
        assert head.chosen_ == [ended[t]]
    other = Head(epochs=6, seed=1).fit(X, Y[:, [0]], folds=folds, weight=weight).predict(X)
    assert np.abs(together[:, 0] - other[:, 0]).max() > 0.05 * np.std(Y[:, 0])


def test_a_target_without_labels_in_the_first_inner_fold_stops_on_another_and_learns_as_well() -> (
    None
):
    rng = np.random.default_rng(0)
    X, part = rng.normal(size=(300, 8)), np.arange(300) % 4
    y = X[:, 0] - X[:, 1] + 0.3 * rng.normal(size=300)
    Y = np.column_stack([y, np.where(part == 0, np.nan, y), y])
    folds = Folds(kind="random", part=part, near=np.zeros((300, 0), bool))
    head = Head(dropout=0.0, learning_rate=1e-2).fit(
        Features(X.astype(np.float32)), Y, folds=folds, weight=np.ones(300)
    )
    assert min(one["epochs"] for one in head.chosen_) > 3
    error = ((head.predict(Features(X.astype(np.float32))) - y[:, None]) ** 2).mean(axis=0)
    assert (error < 0.15 * y.var()).all()
    assert [len(curve) > 3 for curve in head.curves_] == [True] * 3


@pytest.mark.parametrize("kind", ["tail", "finetune"])
def test_the_same_seed_gives_the_same_and_another_another(kind: str, weights: str) -> None:
    model, X = make(kind, weights, seed=3)
    found = []
    for one in (model, model.fresh(), make(kind, weights, seed=4)[0]):
        found.append(one.fit(X, made.Y, folds=made.FOLDS, weight=np.ones(made.N)).predict(X))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3


def test_kept_networks_predict_the_same_in_a_new_process(weights: str, tmp_path: Path) -> None:
    expected = {}
    for kind, name in (("tail", "tail"), ("finetune", "finetune:mobilenetv2")):
        model, X = make(kind, weights)
        model.fit(X, made.Y, folds=made.FOLDS, weight=np.ones(made.N))
        expected[kind] = model.predict(X)
        save_model(tmp_path / kind, name, model, {})
        np.save(tmp_path / f"{kind}.rows.npy", X.array().reshape(-1, *X.grid or ()))
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", AGAIN, str(tmp_path), *expected],
        check=True,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"},
    )
    for kind, values in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{kind}.out.npy"), values, rtol=1e-6)


def test_every_kept_network_is_explained_end_to_end(
    weights: str, experiment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = experiment(
        n=24, replace={**TINY, 'weights = "random:0"': f'weights = {{ tiny = "{weights}" }}'}
    )
    path.write_text(
        path.read_text()
        + '[models]\nnames = ["mean", "tail", "finetune:tiny"]\nfolds = 3\nworkers = 1\n'
        'keep = ["tail", "finetune:tiny"]\naccept = '
        '["labels-differ"]\n[models.params.tail]\nepochs = 2\n'
        'learning_rate = 1e-2\npool = "avg"\n[models.params.finetune]\nepochs = 1\nwarm_learning_rate = 1e-2\npool = '
        '"avg"\n'
    )
    run_extraction(read_settings(path, ExtractSettings))
    fit_all(read_settings(path, FitSettings))
    done = CliRunner().invoke(app, ["explain", "--config", str(path)])
    assert done.exit_code == 0, done.output
    for cut, model in (("tiny/relu2:map", "tail"), ("pixels/32:map", "finetune:tiny")):
        folder, facts, tiles = read_explanation(
            explanation_folder(path.parent / "out", "income", cut, model)
        )
        assert facts["method"] == "gradients"
        assert len(tiles) == 20
        assert all(
            (folder / name).is_file()
            for name in tiles[["tile", "heat", "overlay"]].to_numpy().ravel()
        )
        assert pd.notna(facts["sanity"]["rank_correlation"])
