"""Checks of ids, places and folds: rows that stand twice, footprints that overlap across folds,
areas that are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Bools, Floats, Ints
from models.auditing.areas import FEW_AREAS
from models.auditing.findings import AuditInputs, Finding, check, count_of

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
        names = pd.unique(pd.Series(inputs.ids[again]).astype(str))
        yield Finding(
            "fatal",
            f"{count_of(int(again.sum()), len(inputs), 'rows')} share their id with another row",
            int(again.sum()),
            list(names),
            "Every tile needs an id of its own: remove or rename those rows.",
        )


@check("area-in-two-folds", "folds")
def areas_in_two_folds(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for areas that a split holds out only in part, so that a model has seen the label that
    it is asked for.
    """
    for split, fold in inputs.folds.items():
        if split != "random":
            used = fold >= 0
            by_area = pd.Series(fold[used]).groupby(inputs.area_number[used])
            least = by_area.min()
            most = by_area.max()
            cut = least.index[least != most].to_numpy()
            if len(cut):
                yield Finding(
                    "fatal",
                    f"{count_of(len(cut), len(inputs.areas), 'areas')} lie in more than one fold "
                    "of the split "
                    f"{split!r}",
                    len(cut),
                    [str(a) for a in inputs.areas[cut]],
                    "Delete folds.parquet and run `make models` again, so that the folds are made "
                    "anew.",
                )


@check("same-place", "places")
def same_places(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for tiles with the same centre."""
    again = pd.DataFrame(_places(inputs).round(6)).duplicated(keep=False).to_numpy()
    if again.any():
        yield Finding(
            "warning",
            f"{count_of(int(again.sum()), len(inputs), 'tiles')} have the same centre as another "
            "tile",
            int(again.sum()),
            [str(i) for i in inputs.ids[again]],
            "Mend the coordinates, or remove tiles that stand twice under two ids.",
        )


@check("degrees-for-metres", "places")
def degrees_for_metres(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for coordinates that are longitudes and latitudes: every distance in the settings is in
    metres.
    """
    most = np.abs(_places(inputs)).max(axis=0)
    if most[0] <= 180 and most[1] <= 90:
        first = _places(inputs)[0]
        yield Finding(
            "warning",
            "the coordinates look like longitude and latitude; expected projected metres",
            len(inputs),
            [f"{inputs.ids[0]}: {first[0]:g}, {first[1]:g}"],
            "Project them (for Great Britain to EPSG:27700): block_m, buffer_m and tile sizes are "
            "in metres.",
        )


@check("inferred-tile-size", "places")
def inferred_tile_size(inputs: AuditInputs) -> Iterator[Finding]:
    """Describe which side a tile is taken to have where the settings do not, or that overlaps
    cannot be told.
    """
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
    """Look for tiles that show ground which a tile of another fold shows too; expected on `random`,
    where it is the point.
    """
    side = inputs.size_m or infer_side(_places(inputs))
    if side is None:
        return
    for split, fold in inputs.folds.items():
        if split == "block" and inputs.buffer_m >= np.sqrt(2) * side:
            continue
        overlaps = overlapping(_places(inputs), fold, side)
        n = int(overlaps.sum())
        if n:
            yield Finding(
                "note" if split == "random" else "warning",
                f"{count_of(n, len(inputs), 'tiles')} of {side:g} m overlap a tile of another fold "
                "of the split "
                f"{split!r}",
                n,
                [str(i) for i in inputs.ids[overlaps]],
                _remedy_for(split, side),
            )


def _remedy_for(split: str, side: float) -> str:
    if split == "random":
        return "Nothing: the stricter splits show by how much 'random' flatters."
    buffer_m = f"[models] buffer_m = {np.ceil(np.sqrt(2) * side):.0f}"
    if split == "block":
        return f"Set {buffer_m}, which keeps overlapping tiles out of training."
    return f"Read the split 'block' with {buffer_m}; or cut tiles without overlap."


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
    for f in np.unique(fold[fold >= 0]):
        mine = np.flatnonzero(fold == f)
        others = (fold >= 0) & (fold != f)
        if others.any():
            tree = _tree(xy[others])
            distance, _ = tree.query(
                xy[mine], p=np.inf, distance_upper_bound=side * (1 - EDGE), workers=-1
            )
            found[mine] = np.isfinite(distance)
    return found


def infer_side(xy: Floats) -> float | None:
    """Return the spacing [m] of centres that stand on a regular grid, None where they do not."""
    places = np.unique(xy.round(6), axis=0)
    if len(places) < 2:
        return None
    distance = _tree(places).query(places, k=2, p=np.inf, workers=-1)[0][:, 1]
    spacing = float(np.median(distance))
    return spacing if (np.abs(distance - spacing) <= EDGE * spacing).mean() >= REGULAR else None


def _tree(points: Floats) -> Any:
    from scipy.spatial import (
        cKDTree,  # as scipy.stats slow to load, and a run with nothing to do should not
    )

    return cKDTree(points, balanced_tree=False)


class Likeness(NamedTuple):
    """Rank correlation of a target between areas and their nearest ones, and over how many
    areas.
    """

    rho: float
    n: int


@check("neighbours-alike", "places", "folds")
def neighbours_alike(inputs: AuditInputs) -> Iterator[Finding]:
    """Look for targets that an area shares with its nearest one, where no split holds neighbours
    out together.
    """
    if "block" in inputs.folds or len(inputs.areas) < FEW_AREAS:
        return
    centres = pd.DataFrame(_places(inputs)).groupby(inputs.area_number).mean().to_numpy()
    nearest = _tree(centres).query(centres, k=2)[1][:, 1]
    alike = {name: likeness(y.to_numpy(), nearest) for name, y in inputs.labels.items()}
    examples = [
        f"{name}: {a.rho:.2f} over {a.n:,} areas" for name, a in alike.items() if a.rho > ALIKE
    ]
    if examples:
        yield Finding(
            "note",
            f"{count_of(len(examples), len(alike), 'targets')} are much alike in an area and its "
            "nearest one "
            f"(rank correlation above {ALIKE}), and no split holds neighbours out together",
            len(examples),
            examples,
            "Add 'block' to [models] splits: on 'area' a model can be good by knowing the "
            "neighbourhood.",
        )


def likeness(y: Floats, nearest: Ints) -> Likeness:
    """Correlate the labels of areas with those of their nearest areas; 0 where there is nothing to
    correlate.
    """
    known = ~np.isnan(y) & ~np.isnan(y[nearest])
    here = y[known]
    there = y[nearest][known]
    if len(here) < 3 or not np.ptp(here) or not np.ptp(there):
        return Likeness(0.0, len(here))
    from scipy.stats import spearmanr

    return Likeness(float(spearmanr(here, there).statistic), len(here))


def _places(inputs: AuditInputs) -> Floats:
    if inputs.xy is None:
        raise ValueError("places: expected coordinates, got None; ask `inputs.has('places')` first")
    return inputs.xy
