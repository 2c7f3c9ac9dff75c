"""Mirrored views of the tiles, whose maps stand beside those of the tiles, for networks to learn from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Flip = Literal["hflip", "vflip"]
View = Literal["hflip", "vflip", "hvflip"]
VIEWS: tuple[View, ...] = get_args(View)
_STEPS: dict[str, tuple[int, int]] = {
    "hflip": (1, -1),
    "vflip": (-1, 1),
    "hvflip": (-1, -1),
}  # down, across


def list_views(flips: Collection[Flip]) -> list[View]:
    """Return the views that some flips make, each done or not: of both three, besides the tile as it is."""
    return [
        view
        for view in VIEWS
        if set(flips) >= {f"{letter}flip" for letter in view.removesuffix("flip")}
    ]


def name_view(dataset: str, view: str) -> str:
    """Name the dataset of a view's maps: `<layer>:map@hflip`."""
    return f"{dataset}@{view}"


def mirror(pictures: NDArray[Any], view: View) -> NDArray[Any]:
    """Mirror (n, height, width, …): `hflip` left to right, `vflip` top to bottom, `hvflip` both; a copy."""
    down, across = _STEPS[view]
    return np.ascontiguousarray(pictures[:, ::down, ::across])
