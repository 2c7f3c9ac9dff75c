"""Names of models: `<family>[+pca:<k>][+groups][@area]`, or `finetune:<backbone>`."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal, NamedTuple

from extract.config.cuts import PIXELS, Cut
from extract.config.suggestions import suggest
from extract.networks.registry import REGISTRY

Feed = Literal["nothing", "place", "region", "groups", "metadata", "embedding", "predictions"]

# What each baseline is fed: none of them sees a picture through a network.
BASELINE_FEEDS: dict[str, Feed] = {
    "mean": "nothing",
    "region": "region",
    "location": "place",
    "geodemographic": "groups",
    "metadata": "metadata",
}
FINETUNE = "finetune"
STACK = "stack"
_MAP_FAMILIES = ("cnn", "tail", FINETUNE)
FAMILY_NAMES = (
    "ridge",
    "logistic",
    "svm",
    "knn",
    "forest",
    "extratrees",
    "xgboost",
    "xgboost:joint",
    "head",
    "head:joint",
    *_MAP_FAMILIES,
)
_KNOWN = (*BASELINE_FEEDS, *FAMILY_NAMES, STACK)
_PATTERN = re.compile(
    r"(?P<family>[a-z0-9_:]+)(\+pca:(?P<pca>[1-9]\d*))?(?P<groups>\+groups)?(?P<area>@area)?"
)


class ModelSpec(NamedTuple):
    """A model's name taken apart: its family, its input, and the backbone that it trains."""

    family: str
    pca: int | None = None
    groups: bool = False
    area: bool = False
    backbone: str = ""

    def __str__(self) -> str:
        """Return the name as users write it."""
        name = self.family
        if self.backbone:
            name += f":{self.backbone}"
        if self.pca:
            name += f"+pca:{self.pca}"
        if self.groups:
            name += "+groups"
        if self.area:
            name += "@area"
        return name

    @property
    def is_baseline(self) -> bool:
        """Whether it sees no picture through a network; then it is fitted once a split."""
        return self.family in BASELINE_FEEDS

    @property
    def needs_map(self) -> bool:
        """Whether its rows must be maps; then it is fitted on such cuts alone."""
        return self.family in _MAP_FAMILIES

    def suits(self, cut: Cut, *, maps: str = "all") -> bool:
        """Return whether the model is fitted on a cut.

        A `tail` takes maps of a network, `finetune` maps of pixels, a `cnn` both.

        Parameters
        ----------
        maps : `networks` where models that need no map are not fitted on maps, else `all`.
        """
        if not self.needs_map:
            return maps == "all" or cut.pooling != "map"
        if cut.pooling != "map" or self.family == "cnn":
            return cut.pooling == "map"
        return (cut.backbone == PIXELS) == (self.family == FINETUNE)

    @property
    def feed(self) -> Feed:
        """What the family is fed."""
        if self.family == STACK:
            return "predictions"
        return BASELINE_FEEDS.get(self.family, "embedding")


def check_model(text: str, estimators: Collection[str] = ()) -> ModelSpec:
    """Parse the name of a model whose family is known.

    Parameters
    ----------
    estimators : names of the estimators that the settings define.

    Raises
    ------
    ValueError : as `parse_model`; an unknown family (with the nearest known name).
    """
    family = re.split(r"[+@]", text)[0]
    known = [*_KNOWN, *estimators]
    if family not in known and text.partition(":")[0] != FINETUNE:
        raise ValueError(
            f"unknown model {text!r}; known: {', '.join(known)}, and as 'ridge@area' or "
            f"'ridge+groups'.{suggest(family, known)}"
        )
    return parse_model(text)


def check_estimator_name(name: str) -> str:
    """Return the name of an estimator of the settings, where it can be one.

    Raises
    ------
    ValueError : another form, or the name of a family or baseline.
    """
    if re.fullmatch(r"[a-z][a-z0-9_]*", name) is None:
        raise ValueError(
            f"{name!r}: expected a name of small letters, digits and _, as 'gbm' or 'svr_poly'"
        )
    if name in _KNOWN:
        raise ValueError(f"{name!r} is a model of Roofline; take another name")
    return name


def parse_model(text: str) -> ModelSpec:
    """Parse the name of a model; an unknown family is taken for an estimator of the settings.

    Raises
    ------
    ValueError : another form, an unknown backbone (with the nearest known name), or an input that
        a baseline, the stack or a family of maps does not take.
    """
    if text.partition(":")[0] == FINETUNE:
        return ModelSpec(FINETUNE, backbone=_check_backbone(text))
    family = re.split(r"[+@]", text)[0]
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(
            f"model {text!r}: expected '<family>[+pca:<k>][+groups][@area]', as 'ridge+groups@area'"
        )
    pca = int(match["pca"]) if match["pca"] else None
    spec = ModelSpec(family, pca, bool(match["groups"]), bool(match["area"]))
    takes_input = spec.feed == "embedding" and not spec.needs_map
    if text != family and not takes_input:
        raise ValueError(
            f"model {text!r}: {family!r} takes neither '+…' nor '@area'; write {family!r}"
        )
    return spec


def _check_backbone(text: str) -> str:
    backbone = text.partition(":")[2]
    if backbone not in REGISTRY:
        raise ValueError(
            f"model {text!r}: expected '{FINETUNE}:<backbone>', as '{FINETUNE}:vgg16', with one of "
            f"{', '.join(REGISTRY)}.{suggest(backbone, REGISTRY)}"
        )
    return backbone
