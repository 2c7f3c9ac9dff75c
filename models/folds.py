"""Which tiles are predicted by a model that has not seen them: random tiles, whole areas or whole blocks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.embeddings import publish
from models.family import Floats, Ints


def make_folds(kind: str, *, area: NDArray[Any], xy: Floats | None, n_folds: int, seed: int, block_m: float) -> Ints:
    """Assign tiles to folds that hold about as many tiles each.

    Parameters
    ----------
    kind : `random` (each tile by itself), `area` (whole areas), `block` (all areas whose centroid lies in one square).
    area : (n_tiles,), label of each tile's area.
    xy : (n_tiles, 2), easting and northing [m]; needed by `block` alone.
    block_m : side of the blocks [m].

    Returns
    -------
    (n_tiles,), fold of each tile, 0 … n_folds − 1.

    Raises
    ------
    ValueError : fewer tiles, areas or blocks than folds; no coordinates for `block`; an unknown kind.

    References
    ----------
    Roberts et al. 2017, Ecography 40:913, doi:10.1111/ecog.02881.
    """
    group = _groups(kind, area, xy, block_m)
    sizes = np.bincount(group)
    if len(sizes) < n_folds:
        noun = {"random": "tiles", "area": "areas", "block": f"blocks of {block_m:g} m"}[kind]
        raise ValueError(f"split {kind!r}: expected at least {n_folds} {noun} for {n_folds} folds, got {len(sizes)}. "
                         "Lower folds in [models], or give more tiles.")
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    fold_of, filled = np.empty(len(sizes), dtype=np.int64), np.zeros(n_folds, dtype=np.int64)
    for g in order:
        fold_of[g] = filled.argmin()
        filled[fold_of[g]] += sizes[g]
    return fold_of[group]


def make_inner_folds(kind: str, *, area: NDArray[Any], xy: Floats | None, n_folds: int, seed: int, block_m: float) -> Ints:
    """Assign the training tiles of one fold to inner folds of the same kind; fewer where there are fewer groups."""
    n_groups = int(_groups(kind, area, xy, block_m).max()) + 1
    return make_folds(kind, area=area, xy=xy, n_folds=min(n_folds, n_groups), seed=seed, block_m=block_m)


def _groups(kind: str, area: NDArray[Any], xy: Floats | None, block_m: float) -> Ints:
    """Number of the group that moves together, for each tile: 0 … n_groups − 1."""
    if kind == "random":
        return np.arange(len(area))
    numbers = np.unique(area, return_inverse=True)[1]
    if kind == "area":
        return numbers
    if kind != "block":
        raise ValueError(f"split {kind!r}: expected random, area or block")
    if xy is None:
        raise ValueError("split 'block' needs coordinates, and the settings name none: set x and y (or grid) in [tiles], "
                         "or remove 'block' from splits in [models]")
    sizes = np.bincount(numbers)
    centroids = np.column_stack([np.bincount(numbers, weights=xy[:, i]) / sizes for i in (0, 1)])
    block = np.unique(np.floor(centroids / block_m), axis=0, return_inverse=True)[1]
    return block.ravel()[numbers]


def hash_folds(ids: NDArray[Any], fold: Ints) -> str:
    """SHA-256 of which tile lies in which fold."""
    digest = hashlib.sha256("\0".join(map(str, ids)).encode())
    digest.update(np.ascontiguousarray(fold, dtype="<i8").tobytes())
    return digest.hexdigest()


def write_folds(path: Path, ids: NDArray[Any], folds: dict[str, Ints]) -> None:
    """Write `folds.parquet`: id, split, fold."""
    frame = pd.concat([pd.DataFrame({"id": ids, "split": split, "fold": fold}) for split, fold in folds.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    frame.to_parquet(partial, index=False)
    publish(partial, path)


def read_folds(path: Path, split: str) -> pd.DataFrame:
    """Read the folds of one split: id, split, fold."""
    frame = pd.read_parquet(path)
    return frame[frame["split"] == split].reset_index(drop=True)
