"""XGBoost's boosters: asked for predictions, written, and read with a check of their trees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from extract.config.arrays import Floats
from models.data.features import Features
from models.families.family import as_probabilities
from models.families.trees.tree_checks import check_booster

if TYPE_CHECKING:
    import xgboost

_FILE = "booster-{}.ubj"


class Boosted(NamedTuple):
    """The boosters of one set of training rows.

    Attributes
    ----------
    boosters : one a target, of the rounds that were asked for; empty where none were. Classes have
        one together.
    best : watched part → round of the lowest error there, for each target; None where it has no
        label.
    """

    boosters: list[xgboost.Booster]
    best: dict[int, list[int | None]]


def set_classes(booster: xgboost.Booster, y: Floats) -> None:
    """Note the classes of the training rows: softmax leaves a little to those that no row has."""
    is_known = ~np.isnan(y)
    codes = np.unique(y[is_known]).astype(int)
    booster.set_attr(classes=json.dumps(codes.tolist()))


def predict_boosters(boosters: list[xgboost.Booster], X: Features) -> Floats:
    """Sum the trees: (n_rows, n_targets), or the probability of each class."""
    pieces = []
    for _, piece in X.chunks():
        columns = [booster.inplace_predict(piece) for booster in boosters]
        pieces.append(np.column_stack(columns))
    predicted = np.vstack(pieces).astype(np.float64)
    classes = boosters[0].attr("classes")
    if classes is None:
        return predicted
    every_class = np.arange(predicted.shape[1])
    is_trained = np.isin(every_class, json.loads(classes))
    return as_probabilities(predicted * is_trained, "class")


def load_booster(raw: bytes) -> xgboost.Booster:
    """Load a booster from its UBJSON."""
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(raw))
    return booster


def write_boosters(folder: Path, boosters: list[bytes]) -> None:
    """Write boosters as UBJSON."""
    for number, raw in enumerate(boosters):
        path = folder / _FILE.format(number)
        path.write_bytes(raw)


def read_boosters(folder: Path, n: int) -> list[bytes]:
    """Read what `write_boosters` wrote.

    Raises
    ------
    ValueError, KeyError : a tree that does not end, or leaves its arrays; XGBoost would follow it
        unseen.
    """
    boosters = []
    for number in range(n):
        path = folder / _FILE.format(number)
        raw = path.read_bytes()
        as_json = load_booster(raw).save_raw("json")
        check_booster(json.loads(as_json))
        boosters.append(raw)
    return boosters
