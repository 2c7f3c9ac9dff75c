"""Check the options of `tiles` before anything is read."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from extract.config.suggestions import suggest
from extract.errors import OptionError
from extract.tables.table_file import list_columns
from extract.tiling.boundaries import Rule
from extract.tiling.relief import CHANNELS, COLOURS

Format = Literal["png", "tiff"]
_MOST_SIZE = 100_000  # metres
_MOST_OPENING = 1000  # metres: no building is wider, and the ground is read as far around each tile


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which rasters, polygons and labels become which tiles; lengths in metres.

    Attributes
    ----------
    area_code, label_code : columns of the codes, in the polygons, and in the labels where they have
        another name there.
    stretch : channel → (low, high) that become 0 and 255, where not the limits of `CHANNELS`.
    max_nodata : largest share of a tile without data, 0 … 1.
    opening_m : side of the square that finds the ground.
    workers : threads; None for one a core.
    strict : whether an area without a label is an error.
    """

    surface: Path
    out: Path
    terrain: Path | None = None
    areas: str | None = None
    area_code: str | None = None
    labels: Path | None = None
    label_code: str | None = None
    targets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    size_m: float = 200.0
    stride_m: float = 200.0
    pixels: int = 224
    channels: tuple[str, ...] = ("height", "slope", "hillshade")
    format: Format = "png"
    stretch: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    opening_m: float = 80.0
    max_nodata: float = 0.1
    rule: Rule = "centre"
    crs: str | None = None
    areas_crs: str | None = None
    nodata: float | None = None
    workers: int | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Check what goes with what."""
        _check_channels(self.channels, self.stretch)
        _check_columns(self)
        _check_metres("--size-m", self.size_m, _MOST_SIZE)
        _check_metres("--stride-m", self.stride_m, _MOST_SIZE)
        _check_metres("--opening-m", self.opening_m, _MOST_OPENING)
        if not 32 <= self.pixels <= 4096:
            raise OptionError(f"--pixels: expected 32 … 4096, got {self.pixels}.")
        if not 0 <= self.max_nodata < 1:
            raise OptionError(f"--max-nodata: expected a share, 0 … 1, got {self.max_nodata:g}.")

    @property
    def limits(self) -> list[tuple[float, float]]:
        """(low, high) of each channel, which become 0 and 255 in every tile."""
        if self.channels == (COLOURS,):
            return [(0.0, 255.0)] * 3
        found = []
        for name in self.channels:
            usual = CHANNELS[name]
            found.append(self.stretch.get(name, (usual.low, usual.high)))
        return found

    def describe_stretch(self) -> dict[str, tuple[float, float, str]]:
        """Return the limits of each channel, and their unit."""
        if self.channels == (COLOURS,):
            return {COLOURS: (0.0, 255.0, "as they are")}
        found = {}
        for name, limits in zip(self.channels, self.limits, strict=True):
            found[name] = (*limits, CHANNELS[name].unit)
        return found

    def as_json(self) -> dict[str, Any]:
        """Describe what decides the tiles; where inputs and outputs lie does not."""
        document = asdict(self)
        for place in ("surface", "terrain", "areas", "labels", "out", "workers", "strict"):
            del document[place]
        return document


def check_choice(option: str, value: str, *known: Any) -> Any:
    """Return a value that is one of those known.

    Raises
    ------
    OptionError : it is none.
    """
    if value not in known:
        choices = " or ".join(known)
        hint = suggest(value, known)
        raise OptionError(f"{option}: expected {choices}, got {value!r}.{hint}")
    return value


def split_list(text: str) -> tuple[str, ...]:
    """Split `a,b,c` at its commas; a name that holds one may stand in double quotes."""
    fields = next(csv.reader([text], skipinitialspace=True), [])
    parts = map(str.strip, fields)
    return tuple(filter(None, parts))


def name_columns(texts: Sequence[str], labels: Path | None) -> tuple[str, ...]:
    """Return the columns that some texts name: each a column of the labels, or several by commas.

    Raises
    ------
    TableError : the labels cannot be read.
    """
    known = list_columns(labels, what="labels") if labels and texts else []
    names: list[str] = []
    for text in texts:
        whole = text.strip()
        names += [whole] if whole in known else split_list(text)
    return tuple(names)


def parse_stretch(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Read `height=0:30`, one a channel.

    Raises
    ------
    OptionError : not of that form, or low is not below high.
    """
    found: dict[str, tuple[float, float]] = {}
    for text in texts:
        name, _, limits = text.partition("=")
        name = name.strip()
        error = OptionError(
            f"--stretch {text!r}: expected CHANNEL=LOW:HIGH with LOW below HIGH, "
            "each channel once, as height=0:30."
        )
        try:
            low, high = map(float, limits.split(":"))
        except ValueError:
            raise error from None
        is_right = -math.inf < low < high < math.inf
        if not is_right or name in found:
            raise error
        found[name] = (low, high)
    return found


def _check_metres(option: str, metres: float, most: int) -> None:
    if not 0 < metres <= most:
        raise OptionError(
            f"{option}: expected metres above 0 and at most {most:,}, got {metres:g}."
        )


def _check_channels(channels: Sequence[str], stretch: Mapping[str, Any]) -> None:
    known = [*CHANNELS, COLOURS]
    for name in channels:
        if name not in known:
            choices = ", ".join(known)
            hint = suggest(name, known)
            raise OptionError(f"--channels: unknown channel {name!r}; known: {choices}.{hint}")
    names = ", ".join(channels)
    n_channels = len(channels)
    is_mixed = COLOURS in channels and n_channels > 1
    if n_channels not in (1, 3) or is_mixed:
        choices = ", ".join(CHANNELS)
        raise OptionError(
            f"--channels: expected one or three of {choices}, or {COLOURS} alone, "
            f"got {names or 'none'}."
        )
    if len(set(channels)) < n_channels:
        raise OptionError(
            f"--channels: expected three that differ, got {names}. For grey pictures name one."
        )
    if COLOURS in stretch:
        raise OptionError(f"--stretch: {COLOURS} have none; they are as they are. Leave it out.")
    for name in stretch:
        if name not in channels:
            hint = suggest(name, channels)
            raise OptionError(f"--stretch: {name!r} is none of the channels {names}.{hint}")


def _check_columns(request: Request) -> None:
    names = [*request.targets, *request.groups]
    has_areas = request.areas is not None
    has_code = request.area_code is not None
    if has_areas != has_code:
        raise OptionError(
            "--areas and --area-code go together: name the polygons, and the column of their codes."
        )
    if request.labels is not None and not has_areas:
        raise OptionError(
            "--labels: labels are joined by area; name the polygons with --areas and --area-code."
        )
    if request.labels is None and request.label_code is not None:
        raise OptionError("--label-code: a column of the labels; name that file with --labels.")
    if request.labels is None and names:
        raise OptionError(
            "--targets, --groups: columns of the labels; name that file with --labels."
        )
    for name in names:
        if names.count(name) > 1:
            raise OptionError(
                f"--targets, --groups: {name!r} stands there twice. Name each column once; "
                "what is to be predicted cannot be a group."
            )
        if name == (request.label_code or request.area_code):
            raise OptionError(
                f"--targets, --groups: {name!r} is the column of the area codes; nothing can be "
                "learnt of what no two areas share. Leave it out."
            )
