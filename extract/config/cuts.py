"""Where a network is cut, and how it is written: `<backbone>/<layer>:<pooling>`."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import PlainSerializer, PlainValidator

from extract.config.suggestions import suggest

Pooling = Literal["avg", "max", "flat", "map"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
PIXELS = "pixels"  # no network: a cut's layer is the side that pictures are resized to
JOINED = "joined"  # no network: a cut's layer names cuts whose columns stand side by side

_CUT = re.compile(r"^(?P<backbone>[a-z0-9_]+)/(?P<layer>[^/:]+):(?P<pooling>[a-z]+)$")


class Cut(NamedTuple):
    """A backbone, a layer, and how its map becomes a vector; `vgg16/block5_pool:avg`."""

    backbone: str
    layer: str
    pooling: Pooling

    def __str__(self) -> str:
        """Return the cut as it is written everywhere: `<backbone>/<layer>:<pooling>`."""
        return f"{self.backbone}/{self.dataset}"

    @property
    def dataset(self) -> str:
        """Name of the cut inside its backbone's file: `<layer>:<pooling>`."""
        return f"{self.layer}:{self.pooling}"


class CutSet(Enum):
    """What stands in place of one cut: a baseline has none, a stack has those of all cells."""

    NO_CUT = "none"
    ALL_CUTS = "all"

    def __str__(self) -> str:
        """Return the word that stands in files and tables."""
        return self.value


NO_CUT = CutSet.NO_CUT
ALL_CUTS = CutSet.ALL_CUTS
CellCut = Cut | CutSet


def parse_cut(text: str) -> Cut:
    """Take `<backbone>/<layer>:<pooling>` apart.

    Raises
    ------
    ValueError : not of that form, or an unknown pooling.
    """
    match = _CUT.match(text)
    if match is None:
        raise ValueError(
            f"cut {text!r}: expected '<backbone>/<layer>:<pooling>', as 'vgg16/block5_pool:avg'"
        )
    if match["pooling"] not in POOLINGS:
        known = ", ".join(POOLINGS)
        raise ValueError(
            f"cut {text!r}: unknown pooling {match['pooling']!r}; expected one of {known}."
            + suggest(match["pooling"], POOLINGS)
        )
    if match["backbone"] == PIXELS and not re.fullmatch(r"[1-9]\d{0,3}", match["layer"]):
        raise ValueError(
            f"cut {text!r}: expected '{PIXELS}/<side>:<pooling>', as '{PIXELS}/100:map', "
            f"got the side {match['layer']!r}"
        )
    return Cut(match["backbone"], match["layer"], match["pooling"])  # type: ignore[arg-type]


def parse_cell_cut(text: str) -> CellCut:
    """Return the cut of a fitted cell from its text: that of a cut, `none` or `all`.

    Raises
    ------
    ValueError : none of these.
    """
    words = {cut.value: cut for cut in CutSet}
    return words[text] if text in words else parse_cut(text)


def _as_cut(value: object) -> Cut:
    """Return a cut as settings write it; a `Cut` stays what it is."""
    if isinstance(value, Cut):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected text as 'vgg16/block5_pool:avg', got {value!r}")
    return parse_cut(value)


CutField = Annotated[Cut, PlainValidator(_as_cut), PlainSerializer(str, return_type=str)]
"""A cut in a settings section: read from its text, written as its text."""
