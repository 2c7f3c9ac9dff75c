"""The models by name: `<family>[+pca:<k>][+groups][@area]`, the baselines, and the stack."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from extract.config.cuts import PIXELS, Cut
from extract.config.suggestions import suggest
from extract.networks.registry import REGISTRY
from models.families.baselines import Mean, Region
from models.families.family import Family, Task
from models.families.linear.ridge import SharedRidge
from models.families.location import Location
from models.families.nearest_neighbours import Neighbours
from models.families.networks.cnn import Convolutional
from models.families.networks.finetune import Finetune
from models.families.networks.head import Head, JointHead
from models.families.networks.tail import Tail
from models.families.pca import Reduced
from models.families.trees.boosting import Boosting
from models.families.trees.forest import Forest

Feed = Literal["nothing", "place", "region", "groups", "metadata", "embedding", "predictions"]

# What a model needs to beat: none of them sees a picture through a network. Name → family and what it is fed.
BASELINES: dict[str, tuple[Callable[..., Family], Feed]] = {
    "mean": (Mean, "nothing"),
    "region": (Region, "region"),
    "location": (Location, "place"),
    "geodemographic": (SharedRidge, "groups"),
    "metadata": (SharedRidge, "metadata"),
}
FINETUNE = "finetune"  # a model's name adds the network: `finetune:vgg16`
_MAPPED = ("cnn", "tail", FINETUNE)  # families whose rows are maps
FAMILIES: dict[str, Callable[..., Family]] = {
    "ridge": SharedRidge,
    "knn": Neighbours,
    "forest": Forest,
    "xgboost": Boosting,
    "head": Head,
    "head:joint": JointHead,
    "cnn": Convolutional,
    "tail": Tail,
    FINETUNE: Finetune,
}
STACK = "stack"
_NAME = re.compile(
    r"^(?P<family>[a-z0-9_:]+)(?:\+pca:(?P<pca>[1-9]\d*))?(?P<groups>\+groups)?(?P<area>@area)?$"
)


class ModelSpec(NamedTuple):
    """What a model's name says: its family, what that is fed, and the network that it trains."""

    family: str
    pca: int | None = None
    groups: bool = False
    area: bool = False
    backbone: str = ""

    def __str__(self) -> str:
        """Return the name as it is written everywhere."""
        reduced = f"+pca:{self.pca}" if self.pca else ""
        return f"{self.family}{f':{self.backbone}' * bool(self.backbone)}{reduced}{'+groups' * self.groups}{'@area' * self.area}"

    @property
    def is_baseline(self) -> bool:
        """True where no picture is seen through a network; fitted once a split, under the cut `none`."""
        return self.family in BASELINES

    @property
    def needs_map(self) -> bool:
        """True where rows have to be maps; fitted on such cuts alone."""
        return self.family in _MAPPED

    def suits(self, cut: Cut, *, maps: str = "all") -> bool:
        """Return whether it is fitted on a cut: maps alone for what needs them, of a network for a tail, pictures for the whole.

        Parameters
        ----------
        maps : `networks` where what needs no maps is not fitted on them, `all` where it is.
        """
        if not self.needs_map:
            return maps == "all" or cut.pooling != "map"
        if cut.pooling != "map":
            return False
        is_picture = cut.backbone == PIXELS
        return {"tail": not is_picture, FINETUNE: is_picture}.get(self.family, True)

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
    if text.partition(":")[0] == FINETUNE:
        return ModelSpec(FINETUNE, backbone=_check_backbone(text))
    match = _NAME.match(text)
    known = [*BASELINES, *FAMILIES, STACK]
    if match is None or match["family"] not in known:
        family = re.split(r"[+@]", text)[0]
        if family in known:
            raise ValueError(
                f"model {text!r}: expected '<family>[+pca:<k>][+groups][@area]', as 'ridge+groups@area'"
            )
        raise ValueError(
            f"unknown model {text!r}; known: {', '.join(known)}, and as 'ridge@area' or 'ridge+groups'."
            f"{suggest(family, known)}"
        )
    spec = ModelSpec(
        match["family"],
        int(match["pca"]) if match["pca"] else None,
        bool(match["groups"]),
        bool(match["area"]),
    )
    if (spec.family not in FAMILIES or spec.needs_map) and spec != ModelSpec(spec.family):
        raise ValueError(
            f"model {text!r}: {spec.family!r} takes neither '+…' nor '@area'; write {spec.family!r}"
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


def build_model(
    spec: ModelSpec,
    *,
    seed: int,
    sample: int | None = None,
    task: Task = "number",
    params: Mapping[str, Any] | None = None,
) -> Family:
    """Return an unfitted model.

    Parameters
    ----------
    seed : for the families with randomness.
    sample : training rows that a search is drawn from, where a family searches; None for all.
    params : of the family's constructor, as `models.families.params.check_params` gives them; they come before the others.
    """
    model = find_family(spec.family)()
    asked = {
        "seed": seed,
        "sample": sample,
        "standardise": spec.pca is None,
        "task": task,
        **(params or {}),
    }
    model.set_params(**{name: value for name, value in asked.items() if name in model.get_params()})
    return Reduced(model, spec.pca, seed) if spec.pca else model


def find_family(name: str) -> Callable[..., Family]:
    """Return the constructor of a family or of a baseline."""
    return BASELINES[name][0] if name in BASELINES else FAMILIES[name]
