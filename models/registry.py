"""The models by name: a new family is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from extract.settings import suggest
from models.baselines import Location, Mean
from models.boosting import Boosting
from models.family import Family
from models.forest import Forest
from models.head import Head
from models.neighbours import Neighbours
from models.ridge import SharedRidge

FAMILIES: dict[str, Callable[..., Family]] = {
    "mean": Mean,
    "location": Location,
    "ridge": SharedRidge,
    "knn": Neighbours,
    "forest": Forest,
    "xgboost": Boosting,
    "head": Head,
}
NAMES = tuple(FAMILIES)
BLIND = ("mean", "location")  # see no picture: fitted once a split, under the cut `none`


def check_name(name: str) -> str:
    """Give the name back if it is a model.

    Raises
    ------
    ValueError : it is not; the text gives the nearest.
    """
    if name not in FAMILIES:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(NAMES)}.{suggest(name, NAMES)}")
    return name


def build_model(name: str, *, seed: int) -> Family:
    """Give an unfitted model; a family without randomness takes no seed."""
    factory = FAMILIES[check_name(name)]
    model = factory()
    return model.set_params(seed=seed) if "seed" in model.get_params() else model
