"""The models by name: `<family>[+pca:<k>][+groups][@area]`, the baselines, and the stack."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from extract.settings import suggest
from models.baselines import Mean, Region
from models.boosting import Boosting
from models.family import Family
from models.forest import Forest
from models.head import Head
from models.location import Location
from models.neighbours import Neighbours
from models.pca import Reduced
from models.ridge import SharedRidge

Feed = Literal["nothing", "place", "region", "groups", "metadata", "embedding", "predictions"]

# What a model needs to beat: none of them sees a picture through a network. Name → family and what it is fed.
BASELINES: dict[str, tuple[Callable[..., Family], Feed]] = {
    "mean": (Mean, "nothing"),
    "region": (Region, "region"),
    "location": (Location, "place"),
    "geodemographic": (SharedRidge, "groups"),
    "metadata": (SharedRidge, "metadata"),
}
FAMILIES: dict[str, Callable[..., Family]] = {
    "ridge": SharedRidge,
    "knn": Neighbours,
    "forest": Forest,
    "xgboost": Boosting,
    "head": Head,
}
STACK = "stack"
_NAME = re.compile(r"^(?P<family>[a-z0-9_:]+)(?:\+pca:(?P<pca>[1-9]\d*))?(?P<groups>\+groups)?(?P<area>@area)?$")


class ModelSpec(NamedTuple):
    """What a model's name says: its family, and what that is fed."""

    family: str
    pca: int | None = None
    groups: bool = False
    area: bool = False

    def __str__(self) -> str:
        """Give the name as it is written everywhere."""
        reduced = f"+pca:{self.pca}" if self.pca else ""
        return f"{self.family}{reduced}{'+groups' * self.groups}{'@area' * self.area}"

    @property
    def is_baseline(self) -> bool:
        """True where no picture is seen through a network; fitted once a split, under the cut `none`."""
        return self.family in BASELINES

    @property
    def feed(self) -> Feed:
        """What the family is fed."""
        if self.family == STACK:
            return "predictions"
        return BASELINES[self.family][1] if self.is_baseline else "embedding"


def parse_model(text: str) -> ModelSpec:
    """Take a model's name apart.

    Raises
    ------
    ValueError : not of the form, an unknown family (the text gives the nearest), or a baseline or the stack with a feed.
    """
    match = _NAME.match(text)
    known = [*BASELINES, *FAMILIES, STACK]
    if match is None or match["family"] not in known:
        family = re.split(r"[+@]", text)[0]
        if family in known:
            raise ValueError(f"model {text!r}: expected '<family>[+pca:<k>][+groups][@area]', as 'ridge+groups@area'")
        raise ValueError(f"unknown model {text!r}; known: {', '.join(known)}, and as 'ridge@area' or 'ridge+groups'."
                         f"{suggest(family, known)}")
    spec = ModelSpec(match["family"], int(match["pca"]) if match["pca"] else None, bool(match["groups"]), bool(match["area"]))
    if spec.family not in FAMILIES and spec != ModelSpec(spec.family):
        raise ValueError(f"model {text!r}: {spec.family!r} takes neither '+…' nor '@area'; write {spec.family!r}")
    return spec


def build_model(spec: ModelSpec, *, seed: int, sample: int | None = None) -> Family:
    """Give an unfitted model.

    Parameters
    ----------
    seed : for the families with randomness.
    sample : training rows that a search is drawn from, where a family searches; None for all.
    """
    factory = BASELINES[spec.family][0] if spec.is_baseline else FAMILIES[spec.family]
    model = factory()
    asked = {"seed": seed, "sample": sample, "standardise": spec.pca is None}
    model.set_params(**{name: value for name, value in asked.items() if name in model.get_params()})
    return Reduced(model, spec.pca, seed) if spec.pca else model
