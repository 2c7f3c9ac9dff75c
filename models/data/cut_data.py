"""Read the usable tiles of one cut from the features of its backbones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Bools, Ints
from extract.config.cuts import CellCut, Cut
from extract.errors import FitError
from extract.store.embeddings import Embeddings
from extract.tables.tile_table import Tiles
from models.data.features import Features, open_features
from models.data.fold_file import hash_array


@dataclass(frozen=True, slots=True, kw_only=True)
class CutData:
    """The usable tiles of one cut, in the order of the table.

    Attributes
    ----------
    cut : a cut, or `NO_CUT` of the baselines.
    tiles : (n,), row of each usable tile in the table.
    embedding : (n, d), in memory or on disk as stored; d is 0 without a cut.
    pictures : (n,) of `extract.pictures.decode.PICTURE`; None where the features have none.
    source : hashes of what was read.
    """

    cut: CellCut
    tiles: Ints
    embedding: Features
    pictures: NDArray[np.void] | None
    source: dict[str, str]


def features_path(folder: Path, backbone: str) -> Path:
    """Return the features file of a backbone.

    Raises
    ------
    FitError : it is not there.
    """
    path = folder / "features" / f"{backbone}.h5"
    if not path.is_file():
        raise FitError(
            f"{path}: no embeddings of {backbone!r}. Run `make features` with these settings first."
        )
    return path


def check_same_tiles(embeddings: Embeddings, tiles: Tiles) -> None:
    """Raise `FitError` where the file's ids are not those of the table, in its order."""
    ids = tiles.id.to_numpy().astype(str)
    if not np.array_equal(embeddings.ids.astype(str), ids):
        raise FitError(
            f"{embeddings.path}: {len(embeddings.ids)} tiles that are not the {len(tiles)} of "
            "the table, in its order. Run `make features` anew for this table."
        )


def read_source(
    folder: Path, tiles: Tiles, parts: Sequence[Cut], backbones: list[str]
) -> dict[str, str]:
    """Return the hashes of what cuts side by side are read from, without reading them.

    Without a cut there are no features; the tiles are those that every backbone accepted, so that
    baselines are scored on the same.

    Raises
    ------
    FitError : no file, no such cut in it, or other tiles than those of the table.
    """
    with _open_backbones(folder, tiles, parts, backbones) as opened:
        return _hash_source(opened, tiles, parts)


def read_cut(
    folder: Path,
    tiles: Tiles,
    cut: CellCut,
    parts: Sequence[Cut],
    backbones: list[str],
    *,
    memory: int | None = None,
) -> CutData:
    """Join the table and one cut; rejected tiles are left out.

    Parameters
    ----------
    parts : the cuts whose columns stand side by side in this one; none of the baselines' cut.
    memory : what the features may fill [bytes], as stored or as float32; None for half of what is
        free. What is larger as stored stays on disk, and is read in the file's order each time.

    Raises
    ------
    FitError : as `read_source`; no usable tile.
    FeaturesError : features that are not finite.
    """
    with _open_backbones(folder, tiles, parts, backbones) as opened:
        source = _hash_source(opened, tiles, parts)
        is_usable = _find_usable(opened)
        usable = np.flatnonzero(is_usable)
        if not len(usable):
            raise FitError(f"{cut}: every tile was rejected; features/rejects.csv says why")
        pictures = _find_pictures(opened)
        if parts:
            sources = [(opened[part.backbone].path, part.dataset) for part in parts]
            embedding = open_features(sources, usable, memory=memory)
        else:
            embedding = Features(np.zeros((len(usable), 0), np.float32))
    return CutData(
        cut=cut,
        tiles=usable,
        embedding=embedding,
        pictures=None if pictures is None else pictures[usable],
        source=source,
    )


@contextmanager
def _open_backbones(
    folder: Path, tiles: Tiles, parts: Sequence[Cut], backbones: list[str]
) -> Iterator[dict[str, Embeddings]]:
    """Open the features of the cuts' backbones, or without a cut those of all backbones."""
    if parts:
        backbones = [part.backbone for part in parts]
    with ExitStack() as stack:
        opened = {}
        for backbone in dict.fromkeys(backbones):
            embeddings = stack.enter_context(Embeddings(features_path(folder, backbone)))
            check_same_tiles(embeddings, tiles)
            opened[backbone] = embeddings
        yield opened


def _hash_source(
    opened: dict[str, Embeddings], tiles: Tiles, parts: Sequence[Cut]
) -> dict[str, str]:
    usable = _find_usable(opened)
    source = {"tiles_sha256": tiles.sha256, "usable_sha256": hash_array(usable)}
    if not parts:
        pictures = _find_pictures(opened)
        source["pictures_sha256"] = "" if pictures is None else hash_array(pictures)
        return source
    weights = []
    features = []
    for part in parts:
        embeddings = opened[part.backbone]
        if part.dataset not in embeddings.cuts:
            known = ", ".join(embeddings.cuts)
            raise FitError(
                f"{embeddings.path}: no cut {part.dataset!r}; it has {known}. Run `make features` "
                "with these settings."
            )
        weights.append(str(embeddings.attributes.get("weights_sha256", "")))
        features.append(embeddings.checksum(part.dataset))
    source["weights_sha256"] = " ".join(weights)
    source["features_sha256"] = " ".join(features)
    return source


def _find_usable(opened: dict[str, Embeddings]) -> Bools:
    """Return which tiles every backbone accepted: (n_tiles,)."""
    is_ok = [embeddings.is_ok for embeddings in opened.values()]
    return np.all(is_ok, axis=0)


def _find_pictures(opened: dict[str, Embeddings]) -> NDArray[np.void] | None:
    """Return what the first features that describe their pictures say of them."""
    for embeddings in opened.values():
        if embeddings.pictures is not None:
            return embeddings.pictures
    return None
