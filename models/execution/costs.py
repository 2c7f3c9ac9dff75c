"""What fitting a run costs by what its parameters say, in seconds on two cores of a Zen 3 machine.

Of ridge, knn, forest and xgboost the constants come from `make bench-fit` (3,000 to 24,000 planted tiles × 512 features, ridge
also on 36,723 × 25,088 and 1,000,000 × 512), of an epoch of the networks from `make bench-heads`. How many rounds and epochs
early stopping allows nobody knows before: they are taken from planted tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from models.families.registry import BASELINES, FINETUNE, STACK, ModelSpec

Params = Mapping[str, Any]

_RIDGE_RATE = 4e10  # floating-point operations a second of float64, all around it included
_TRAIN_RATE = 5e10  # multiplications a second that a network learns with, forward and backward
_LINES = 40  # one-hot columns of area descriptors, about
# Epochs after which the held loss mostly has stopped falling, patience included; `epochs` may end a training before.
_EPOCHS = {"head": 25, "head:joint": 25, "cnn": 25, "tail": 10, FINETUNE: 10}
_STEP_SECONDS = {
    "head": 0.0025,
    "head:joint": 0.0025,
    "cnn": 0.006,
    "tail": 0.02,
    FINETUNE: 0.06,
}  # whatever a batch holds
_START_SECONDS = {
    "head": 6.0,
    "head:joint": 6.0,
    "cnn": 7.0,
    "tail": 12.0,
    FINETUNE: 30.0,
}  # to load Keras and compile
# Multiplications of a picture of 224 × 224 [1e9], about, from the papers of the networks; thrice where most convolutions are
# of single channels, which take about three times as long each.
NETWORK_GMACS = {
    "vgg16": 15.5,
    "vgg19": 19.6,
    "mobilenet": 1.7,
    "mobilenetv2": 0.9,
    "mobilenetv3small": 0.2,
    "mobilenetv3large": 0.7,
    "xception": 14.0,
    "inceptionv3": 3.0,
    "inceptionresnetv2": 6.5,
    "resnet50": 3.9,
    "resnet101": 7.6,
    "resnet152": 11.3,
    "resnet50v2": 3.5,
    "resnet101v2": 7.2,
    "resnet152v2": 11.0,
    "densenet121": 2.9,
    "densenet169": 3.4,
    "densenet201": 4.3,
    "efficientnetb0": 1.2,
    "efficientnetb1": 1.8,
    "efficientnetb2": 2.2,
    "efficientnetb3": 3.0,
    "efficientnetb4": 4.5,
    "efficientnetb5": 7.2,
    "efficientnetb6": 10.0,
    "efficientnetb7": 16.0,
    "efficientnetv2b0": 1.1,
    "efficientnetv2b1": 1.8,
    "efficientnetv2b2": 2.6,
    "efficientnetv2b3": 4.5,
    "efficientnetv2s": 5.8,
    "efficientnetv2m": 11.0,
    "efficientnetv2l": 23.0,
    "convnexttiny": 4.5,
    "convnextsmall": 8.7,
    "convnextbase": 15.4,
    "convnextlarge": 34.0,
    "convnextxlarge": 61.0,
}
_USUAL_GMACS = 4.0  # of a network that is not among them
# Share of them that stands after a map whose side is the picture's over 2, 4, 8 …
_SHARE_AFTER = (1.0, 0.95, 0.8, 0.5, 0.1, 0.04)


class Work(NamedTuple):
    """What a run is fitted on.

    Attributes
    ----------
    n_tiles : of the table. n_areas : of them. n_features : of a tile at the cut; of a stack, its members.
    grid : height, width and channels where the cut is a map. backbone, side : of the cut: network, and its pictures' [pixels].
    outputs : of each target to fit: 1 for a number, else its classes. folds : of the split.
    is_nested : nested predictions are asked for.
    """

    n_tiles: int
    n_areas: int
    n_features: int
    grid: tuple[int, ...]
    backbone: str
    side: int
    outputs: tuple[int, ...]
    folds: int
    is_nested: bool

    @property
    def twice(self) -> int:
        """How often a family is fitted that shares nothing between the two kinds of prediction."""
        return 1 + self.is_nested


def count_seconds(spec: ModelSpec, params: Params, work: Work) -> float:
    """Return the seconds of a run.

    Parameters
    ----------
    params : of the family's constructor, as `get_params` gives them.
    """
    return _rows_seconds(spec, work) + FORMULAS.get(spec.family, _ridge)(
        spec, params, _feed(spec, work)
    )


def _feed(spec: ModelSpec, work: Work) -> Work:
    """Return the rows and features that the family itself sees."""
    if spec.family in BASELINES:
        return work._replace(
            n_features={"mean": 1, "region": 1, "location": 2, "metadata": 8}.get(
                spec.family, _LINES
            )
        )
    width = spec.pca or work.n_features * (2 if spec.area else 1)
    return work._replace(
        n_tiles=work.n_areas if spec.area else work.n_tiles, n_features=width + _LINES * spec.groups
    )


def _rows_seconds(spec: ModelSpec, work: Work) -> float:
    """Pool the tiles of each area, and find principal components: six passes a training set."""
    values = work.n_tiles * work.n_features / 1e6
    reduced = work.twice * work.folds * 6 * values * (spec.pca + 16) * 2.5e-5 if spec.pca else 0.0
    return 0.03 + reduced + 0.05 * values * spec.area


def _ridge(spec: ModelSpec, params: Params, work: Work) -> float:  # noqa: ARG001
    """Products of the features once, and a factor for each training set and penalty; iterated where both sides are long."""
    n = work.n_tiles
    d = work.n_features
    k = work.folds
    if min(n, d) > params.get("exact_limit", 4096):
        return 3.0 * n * d / 1e6
    n_sets = k + k * (k - 1) // 2 + work.is_nested * k * (k - 2)
    shorter = min(n, d)
    factors = (
        n_sets
        * len(params.get("alphas", (1,)))
        * shorter**2
        * (2 * shorter / 3 + 4 * sum(work.outputs))
    )
    products = 2 * n * d * shorter * (1 if d <= n else n_sets)
    return 0.1 + 0.05 * n * d / 1e6 + (factors + products) / _RIDGE_RATE


def _knn(spec: ModelSpec, params: Params, work: Work) -> float:  # noqa: ARG001
    """Every fold and inner fold compares each row with each."""
    n = min(work.n_tiles, params.get("sample") or work.n_tiles)
    d = work.n_features
    return work.twice * (0.1 + 1.5e-4 * n + 0.3 * n * d / 1e6 + n * n * (d + 60) * 8e-11)


def _location(spec: ModelSpec, params: Params, work: Work) -> float:  # noqa: ARG001
    fields = len(params["lengths"]) * params["n_centres"] ** 2 * 2 * work.n_tiles
    return work.folds * (0.2 + fields / _RIDGE_RATE + 2e-5 * work.n_tiles)


def _forest(spec: ModelSpec, params: Params, work: Work) -> float:  # noqa: ARG001
    """Trees share nothing; those that search cost three to five times as much."""
    share = min(1.0, max(params["features"], 32 / work.n_features)) / 0.2
    a_tree = (
        0.005
        + 0.05 * share * (3.5 if params["search"] else 1) * work.n_tiles * work.n_features / 1e6
    )
    return work.twice * work.folds / 5 * len(work.outputs) * (0.1 + params["n_trees"] * a_tree)


def _xgboost(spec: ModelSpec, params: Params, work: Work) -> float:  # noqa: ARG001
    """Features are binned for each training set, and each is boosted; more rows bear more rounds, deeper trees fewer."""
    values = work.n_tiles * work.n_features / 1e6
    k = work.folds
    best = min(
        params["n_estimators"],
        57
        * (work.n_tiles / 3000) ** 0.31
        * 0.1
        / params["learning_rate"]
        * 3
        / params["max_depth"],
    )
    watched = min(params["n_estimators"], best + params["early_stopping_rounds"])
    seen = 1.0
    a_tree = (
        (
            5e-8 * work.n_tiles
            + seen * (1e-3 * values + 1.1e-7 * work.n_features * params["max_bin"])
        )
        * params["max_depth"]
        / 3
    )
    return 0.3 + 0.9 * values * k / 5 + sum(work.outputs) * k * (best + watched) * (0.0007 + a_tree)


def _network(spec: ModelSpec, params: Params, work: Work) -> float:
    """Train for some epochs, for each fold and, unless joint, each target."""
    family = spec.family
    k = work.folds
    batch = params["batch"]
    is_joint = family == "head:joint" or params.get("joint", False)
    numbers = work.outputs.count(1)
    classes = len(work.outputs) - work.outputs.count(1)
    n_trainings = (
        k * (min(1, numbers) * (1 + work.is_nested) if is_joint else numbers * (1 + work.is_nested))
        + k * classes
    )
    epochs = min(params["epochs"], max(_EPOCHS[family], 2 * params["patience"]))
    n_train = work.n_tiles * max(1 - 2 / k, 1 / 4)
    n_held = work.n_tiles / k
    macs, weights = _macs(spec, params, work)
    learnt = 3 * macs / _TRAIN_RATE
    a_step = _STEP_SECONDS[family] + 2.5e-9 * weights
    an_epoch = n_train / batch * a_step + (n_train + n_held / 3) * learnt
    warm = params.get("warm_epochs", 0) * (
        n_train / batch * a_step + (n_train + n_held) * learnt / 3
    )
    return _START_SECONDS[family] + n_trainings * (0.2 + epochs * an_epoch + warm)


def _macs(spec: ModelSpec, params: Params, work: Work) -> tuple[float, float]:
    """Return the multiplications of a row forward, and the weights of the dense layers."""
    if spec.family in ("head", "head:joint"):
        dense = _dense(work.n_features, params["hidden"])
        return dense, dense
    height, width, channels = work.grid
    if spec.family == "cnn":
        f, (h, w) = params["filters"], (height // 2 - 2, width // 2 - 2)
        dense = max(1, h // 2) * max(1, w // 2) * f * params["dense"]
        return 9 * f * (height * width * channels + h * w * f) + dense, dense
    whole = (
        NETWORK_GMACS.get(spec.backbone or work.backbone, _USUAL_GMACS)
        * 1e9
        * (work.side / 224) ** 2
    )
    halvings = 0 if spec.family == FINETUNE else max(0, round(work.side / height).bit_length() - 1)
    share = _SHARE_AFTER[min(halvings, len(_SHARE_AFTER) - 1)]
    last = 1024 * (max(1, work.side // 32) ** 2 if params["pool"] == "flat" else 1)
    dense = _dense(last, params["hidden"])
    return whole * share + dense, dense


def _dense(width: int, hidden: tuple[int, ...]) -> float:
    widths = (width, *hidden, 1)
    return float(sum(a * b for a, b in pairwise(widths)))


def _stack(spec: ModelSpec, params: Params, work: Work) -> float:  # noqa: ARG001
    return 0.5 + work.n_tiles * work.n_features / 1e6 * (2 + len(work.outputs))


def _mean(spec: ModelSpec, params: Params, work: Work) -> float:  # noqa: ARG001
    return 0.01 + 1e-6 * work.n_tiles * len(work.outputs)


FORMULAS: dict[str, Callable[[ModelSpec, Params, Work], float]] = {
    "mean": _mean,
    "region": _mean,
    "location": _location,
    "knn": _knn,
    "forest": _forest,
    "xgboost": _xgboost,
    STACK: _stack,
    **dict.fromkeys(("head", "head:joint", "cnn", "tail", FINETUNE), _network),
}
