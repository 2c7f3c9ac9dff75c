"""The class of every family and baseline, and how a model is built from its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.data.model_names import FINETUNE, ModelSpec
from models.families.baselines import Location, Mean, Region
from models.families.family import Family
from models.families.linear.margins import Logistic, SupportVectors
from models.families.linear.ridge import SharedRidge
from models.families.nearest_neighbours import Neighbours
from models.families.networks.cnn import Convolutional
from models.families.networks.finetune import Finetune
from models.families.networks.head import Head, JointHead
from models.families.networks.tail import Tail
from models.families.pca import Reduced
from models.families.training_rows import Task
from models.families.trees.boosting import Boosting, JointBoosting
from models.families.trees.forest import ExtraTrees, Forest

BASELINES: dict[str, Callable[..., Family]] = {
    "mean": Mean,
    "region": Region,
    "location": Location,
    "geodemographic": SharedRidge,
    "metadata": SharedRidge,
}
FAMILIES: dict[str, Callable[..., Family]] = {
    "ridge": SharedRidge,
    "logistic": Logistic,
    "svm": SupportVectors,
    "knn": Neighbours,
    "forest": Forest,
    "extratrees": ExtraTrees,
    "xgboost": Boosting,
    "xgboost:joint": JointBoosting,
    "head": Head,
    "head:joint": JointHead,
    "cnn": Convolutional,
    "tail": Tail,
    FINETUNE: Finetune,
}


def build_model(
    spec: ModelSpec,
    *,
    seed: int,
    sample: int | None = None,
    task: Task = "number",
    params: Mapping[str, Any] | None = None,
) -> Family:
    """Build an unfitted model.

    Parameters
    ----------
    seed : of the families with randomness.
    sample : number of training rows that a neighbour search keeps; None for all.
    params : of the family's constructor, checked by `check_params`; they win over the others.
    """
    model = find_family(spec.family)()
    known = model.get_params()
    wanted: dict[str, Any] = {"seed": seed, "sample": sample, "task": task}
    wanted["standardise"] = spec.pca is None
    wanted.update(params or {})
    model.set_params(**{name: value for name, value in wanted.items() if name in known})
    return Reduced(model, spec.pca, seed) if spec.pca else model


def find_family(name: str) -> Callable[..., Family]:
    """Return the class of a family or baseline."""
    return (BASELINES | FAMILIES)[name]
