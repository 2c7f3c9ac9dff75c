"""The tile table joined with one cut: what every model is fitted on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.embeddings import Embeddings
from extract.settings import Cut
from extract.tiles import Tiles
from models.family import Floats

NONE = "none"


class DesignError(ValueError):
    """The embeddings and the tile table do not belong together; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """The usable tiles of one cut, in the order of the table.

    Attributes
    ----------
    cut : `<backbone>/<layer>:<pooling>`, or `none`.
    rows : (n,), row of each usable tile in the table.
    X : (n, d) float32, finite; d is 0 for `none`.
    Y : (n, n_targets) float64, NaN where the label is missing.
    area : (n,). xy : (n, 2) [m] or None.
    source : hashes of what X was read from.
    """

    cut: str
    rows: NDArray[np.int64]
    ids: NDArray[Any]
    X: NDArray[np.float32]
    Y: Floats
    area: NDArray[Any]
    xy: Floats | None
    source: dict[str, str]


def features_path(folder: Path, backbone: str) -> Path:
    """Give the file of a backbone.

    Raises
    ------
    DesignError : it is not there.
    """
    path = folder / "features" / f"{backbone}.h5"
    if not path.is_file():
        raise DesignError(f"{path}: no embeddings of {backbone!r}. Run `make features` with these settings first.")
    return path


def read_design(folder: Path, tiles: Tiles, cut: Cut) -> Design:
    """Join the table and one cut; rejected tiles are left out.

    Raises
    ------
    DesignError : no file, no such cut in it, other tiles than the table's, or no usable tile.
    """
    with Embeddings(features_path(folder, cut.backbone)) as embeddings:
        check_same_tiles(embeddings, tiles)
        if cut.dataset not in embeddings.cuts:
            raise DesignError(f"{embeddings.path}: no cut {cut.dataset!r}; it has {', '.join(embeddings.cuts)}. "
                              "Run `make features` with these settings.")
        stored, is_ok = embeddings.read(cut.dataset), embeddings.is_ok
        source = {key: str(embeddings.attributes.get(key, "")) for key in ("tiles_sha256", "weights_sha256")}
    source["features_sha256"] = hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest()
    X = stored[is_ok].reshape(int(is_ok.sum()), -1).astype(np.float32)
    if not np.isfinite(X).all():
        raise DesignError(f"{cut}: NaN or infinity in the embeddings of accepted tiles. Run `make features` anew.")
    return _build(tiles, str(cut), np.flatnonzero(is_ok), X, source)


def read_blind_design(folder: Path, tiles: Tiles, backbones: list[str]) -> Design:
    """Give the tiles that every backbone accepted, without features, so that baselines are scored on the same tiles."""
    is_ok = np.ones(len(tiles), dtype=np.bool_)
    for backbone in backbones:
        with Embeddings(features_path(folder, backbone)) as embeddings:
            check_same_tiles(embeddings, tiles)
            is_ok &= embeddings.is_ok
    source = {"tiles_sha256": tiles.sha256, "usable_sha256": hashlib.sha256(is_ok.tobytes()).hexdigest()}
    return _build(tiles, NONE, np.flatnonzero(is_ok), np.zeros((int(is_ok.sum()), 0), np.float32), source)


def check_same_tiles(embeddings: Embeddings, tiles: Tiles) -> None:
    """Raise `DesignError` where the file's ids are not the table's, in order."""
    if not np.array_equal(embeddings.ids.astype(str), tiles.id.to_numpy().astype(str)):
        raise DesignError(f"{embeddings.path}: {len(embeddings.ids)} tiles that are not the {len(tiles)} of the table, in its "
                          "order. Run `make features` anew for this table.")


def _build(tiles: Tiles, cut: str, rows: NDArray[np.int64], X: NDArray[np.float32], source: dict[str, str]) -> Design:
    if not len(rows):
        raise DesignError(f"{cut}: every tile was rejected; features/rejects.csv says why")
    Y = tiles.targets.to_numpy(np.float64)[rows]
    return Design(cut=cut, rows=rows, ids=tiles.id.to_numpy()[rows], X=X, Y=Y, area=tiles.area.to_numpy().astype(str)[rows],
                  xy=None if tiles.xy is None else tiles.xy[rows], source=source)
