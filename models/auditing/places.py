"""Checks of ids, places and folds: repeated rows, overlapping footprints, areas that are cut."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Bools, Floats, Ints
from models.auditing.areas import FEW_AREAS
from models.auditing.findings import AuditInputs, Finding, check, count_of, list_texts
from models.auditing.variogram import fit_variogram

EDGE = 0.01  # share of the side by which neighbours may overlap: coordinates are rounded
# share of the tiles whose nearest neighbour lies at the same distance, for that to be a spacing
REGULAR = 0.9
# correlation of an area's label with its neighbour's, from which on the split 'area' is easy
ALIKE = 0.5


@check("repeated-id")
def repeated_ids(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for ids that stand in more than one row: predictions could not be told apart."""
    again = pd.Series(inputs.ids).duplicated(keep=False).to_numpy()
    if again.any():
        n = int(again.sum())
        yield Finding(
            "fatal",
            f"{count_of(n, len(inputs), 'rows')} share their id with another row",
            n,
            list_texts(pd.unique(inputs.ids[again])),
            "Every tile needs an id of its own: remove or rename those rows.",
        )


@check("area-in-two-folds", "folds")
def areas_in_two_folds(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas that a split holds out in part: a model has seen the label it is asked for."""
    for split, fold in inputs.folds.items():
        used = pd.Series(fold)[fold >= 0]
        area = inputs.area_number[used.index]
        n_folds = used.groupby(area).nunique()
        cut = n_folds.index[n_folds > 1]
        if split != "random" and len(cut):
            yield Finding(
                "fatal",
                f"{count_of(len(cut), len(inputs.areas), 'areas')} lie in more than one fold of "
                f"the split {split!r}",
                len(cut),
                list_texts(inputs.areas[cut]),
                "Delete folds.parquet and run `make models` again, so that the folds are made "
                "anew.",
            )


@check("same-place", "places")
def same_places(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for tiles with the same centre."""
    places = pd.DataFrame(_places(inputs).round(6))
    again = inputs.ids[places.duplicated(keep=False)]
    if len(again):
        yield Finding(
            "warning",
            f"{count_of(len(again), len(inputs), 'tiles')} have the same centre as another tile",
            len(again),
            list_texts(again),
            "Mend the coordinates, or remove tiles that stand twice under two ids.",
        )


@check("degrees-for-metres", "places")
def degrees_for_metres(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for longitudes and latitudes: every distance in the settings is in metres."""
    places = _places(inputs)
    east, north = np.abs(places).max(axis=0)
    if east <= 180 and north <= 90:
        x, y = places[0]
        yield Finding(
            "warning",
            "the coordinates look like longitude and latitude; expected projected metres",
            len(inputs),
            [f"{inputs.ids[0]}: {x:g}, {y:g}"],
            "Project them (for Great Britain to EPSG:27700): block_m, buffer_m and tile sizes are "
            "in metres.",
        )


@check("inferred-tile-size", "places")
def inferred_tile_size(inputs: AuditInputs) -> Iterator[Finding]:
    """Report the tile size inferred from the spacing of centres, or that none could be inferred."""
    if inputs.size_m is not None:
        return
    side = infer_side(_places(inputs))
    what = (
        "no tile size is set and the centres have no regular spacing, so overlaps cannot be found"
    )
    if side:
        what = (
            f"no tile size is set; tiles are taken to be {side:g} m wide, the spacing of their "
            "centres, and so not to overlap"
        )
    remedy = "Set [tiles] size_m to the side of the square that a tile shows."
    yield Finding("note", what, len(inputs), [], remedy)


@check("overlap-across-folds", "places", "folds")
def overlaps_across_folds(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for tiles that show ground which a tile of another fold shows; `random` is meant to."""
    places = _places(inputs)
    side = inputs.size_m or infer_side(places)
    if side is None:
        return
    diagonal = np.sqrt(2) * side
    buffer_m = f"[models] buffer_m = {np.ceil(diagonal):.0f}"
    remedies = {
        "random": "Nothing: the stricter splits show by how much 'random' flatters.",
        "block": f"Set {buffer_m}, which keeps overlapping tiles out of training.",
    }
    other_splits = f"Read the split 'block' with {buffer_m}; or cut tiles without overlap."
    for split, fold in inputs.folds.items():
        if split == "block" and inputs.buffer_m >= diagonal:
            continue
        is_over = overlapping(places, fold, side)
        found = inputs.ids[is_over]
        if len(found):
            yield Finding(
                "note" if split == "random" else "warning",
                f"{count_of(len(found), len(inputs), 'tiles')} of {side:g} m overlap a tile of "
                f"another fold of the split {split!r}",
                len(found),
                list_texts(found),
                remedies.get(split, other_splits),
            )


def overlapping(xy: Floats, fold: Ints, side: float) -> Bools:
    """Tell which tiles overlap a tile of another fold.

    Parameters
    ----------
    xy : (n, 2), centres [m]. fold : (n,), −1 for tiles that nobody uses. side : of the square that
        a tile shows [m].

    Returns
    -------
    (n,) bool. Squares overlap where both distances, east and north, are shorter than the side (less
    1 % for rounding).
    """
    found = np.zeros(len(xy), np.bool_)
    is_used = fold >= 0
    limit = side * (1 - EDGE)
    for f in np.unique(fold[is_used]):
        is_mine = fold == f
        others = xy[is_used & ~is_mine]
        if len(others):
            tree = _tree(others)
            distance, _ = tree.query(xy[is_mine], p=np.inf, distance_upper_bound=limit)
            found[is_mine] = np.isfinite(distance)
    return found


def infer_side(xy: Floats) -> float | None:
    """Return the spacing [m] of centres that stand on a regular grid, None where they do not."""
    places = np.unique(xy.round(6), axis=0)
    if len(places) < 2:
        return None
    distances, _ = _tree(places).query(places, k=2, p=np.inf)
    to_nearest = distances[:, 1]
    spacing = float(np.median(to_nearest))
    deviation = np.abs(to_nearest - spacing)
    is_regular = deviation <= EDGE * spacing
    return spacing if is_regular.mean() >= REGULAR else None


def _tree(points: Floats) -> Any:
    from scipy.spatial import cKDTree  # slow to load: a run with nothing to do should not

    return cKDTree(points, balanced_tree=False)


class Likeness(NamedTuple):
    """Rank correlation of a target between n areas and their nearest ones."""

    rho: float
    n: int


@check("neighbours-alike", "places", "folds")
def neighbours_alike(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that neighbours share, where no split holds neighbours out together."""
    if "block" in inputs.folds or len(inputs.areas) < FEW_AREAS:
        return
    places = pd.DataFrame(_places(inputs))
    centres = places.groupby(inputs.area_number).mean().to_numpy()
    _, neighbours = _tree(centres).query(centres, k=2)
    examples = []
    ranges = []
    for name, column in inputs.labels.items():
        y = column.to_numpy(np.float64)
        alike = likeness(y, neighbours[:, 1])
        if alike.rho <= ALIKE:
            continue
        example = f"{name}: {alike.rho:.2f} over {alike.n:,} areas"
        variogram = fit_variogram(centres, y)
        if variogram is not None and variogram.is_clear:
            ranges.append(variogram.range_m)
            example += f", alike up to {variogram.range_m:,.0f} m"
        examples.append(example)
    if examples:
        yield Finding(
            "note",
            f"{count_of(len(examples), len(inputs.numeric), 'targets')} are much alike in an area "
            f"and its nearest one (rank correlation above {ALIKE}), and no split holds neighbours "
            "out together",
            len(examples),
            examples,
            "Add 'block' to [models] splits: on 'area' a model can be good by knowing the "
            f"neighbourhood.{_propose_blocks(ranges)}",
        )


def _propose_blocks(ranges: list[float]) -> str:
    """Propose blocks and buffers by the ranges within which areas tell of each other [m]."""
    if not ranges:
        return ""
    median_m = round_up(float(np.median(ranges)))
    return (
        f" Set block_m to {median_m}, the median range within which areas are alike; blocks still "
        "touch training tiles, and buffer_m of that width keeps these out."
    )


def round_up(metres: float) -> int:
    """Return the next number with two figures."""
    magnitude = math.floor(math.log10(max(metres, 1.0)))
    step = 10.0 ** max(magnitude - 1, 0)
    return int(math.ceil(metres / step) * step)


def likeness(y: Floats, nearest: Ints) -> Likeness:
    """Correlate the labels of areas with those of their nearest areas; 0 where they are equal."""
    pairs = pd.DataFrame({"here": y, "there": y[nearest]}).dropna()
    if len(pairs) < 3 or (pairs.nunique() == 1).any():
        return Likeness(0.0, len(pairs))
    rho = pairs["here"].corr(pairs["there"], method="spearman")
    return Likeness(rho, len(pairs))


def _places(inputs: AuditInputs) -> Floats:
    if inputs.xy is None:
        raise ValueError("places: expected coordinates, got None; ask `inputs.has('places')` first")
    return inputs.xy
