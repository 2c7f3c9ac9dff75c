"""Embeddings from elsewhere, brought into the layout that everything after extraction reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.cuts import Cut, parse_cut
from extract.errors import VectorFileError
from extract.files.locks import locked
from extract.settings import ExtractSettings
from extract.store.backbone_shards import IMPORTED, BackboneShards
from extract.store.shards import ShardWriter, write_virtual
from extract.store.vector_files import (
    Vectors,
    VectorSource,
    hash_sources,
    open_vectors,
    parse_source,
    read_ids,
)
from extract.tables.tile_table import Tiles, read_tiles

_BATCH_BYTES = 1 << 26
_ABSENT = "no vector in the import"
_BAD = "NaN or infinity in the import"


@dataclass(slots=True, kw_only=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    path : the file written. `n_tiles` : tiles of the table.
    n_absent, n_bad : tiles without a vector, and with one that is not finite: rejected rows.
    n_extra : vectors whose id the table lacks. `n_clipped` : numbers beyond the stored type, which took its largest value.
    """

    path: Path
    n_tiles: int
    n_extra: int
    n_absent: int = 0
    n_bad: int = 0
    n_clipped: int = 0


def import_embeddings(
    settings: ExtractSettings, cuts: Mapping[str, str], *, ids: str, fresh: bool = False
) -> Imported:
    """Write `features/<backbone>.h5` from ids and vectors that something else made; row i is tile i of the table.

    Parameters
    ----------
    cuts : `<backbone>/<layer>:<pooling>` → `FILE` or `FILE:NAME` of its vectors, (n, d), or (n, h, w, c) for `map`; one
        backbone. Files are .npy, .h5 or .parquet, and are read by rows.
    ids : `FILE` or `FILE:NAME`, the ids of the vectors' rows.
    fresh : replace what is there.

    Raises
    ------
    VectorFileError : files that cannot be read, or do not fit each other or the table; features that are there already.
    LockError : the folder is in use. OSError : the disk is full.
    """
    named = _check_cuts(cuts)
    tiles = read_tiles(settings)
    job = BackboneShards(settings, tiles, next(iter(named)).backbone, tiles_sha256=tiles.sha256)
    where = parse_source(ids)
    sources = {cut.dataset: parse_source(text) for cut, text in named.items()}
    features = settings.folder / "features"
    with locked(features), ExitStack() as stack:
        vectors = {
            name: stack.enter_context(open_vectors(source, scratch=features, ids=where))
            for name, source in sources.items()
        }
        rows, n_extra = _match(where, sources, vectors, tiles)
        _check_shapes(named, sources, vectors)
        _make_room(job, fresh=fresh)
        done = Imported(path=job.virtual, n_tiles=len(tiles), n_extra=n_extra)
        _write(
            job, vectors, rows, attributes=_attributes(settings, tiles, where, sources), done=done
        )
    return done


def _check_cuts(cuts: Mapping[str, str]) -> dict[Cut, str]:
    try:
        named = {parse_cut(text): source for text, source in cuts.items()}
    except ValueError as error:
        raise VectorFileError(str(error)) from None
    backbones = sorted({cut.backbone for cut in named})
    if len(backbones) != 1:
        raise VectorFileError(
            f"expected cuts of one backbone at a time, got {', '.join(backbones) or 'none'}. "
            "Import each by itself."
        )
    return named


def _match(
    where: VectorSource,
    sources: Mapping[str, VectorSource],
    vectors: Mapping[str, Vectors],
    tiles: Tiles,
) -> tuple[NDArray[np.int64], int]:
    """Return the row of each tile's vector, −1 where there is none, and the number of vectors that no tile has."""
    ids = read_ids(where)
    for name, source in sources.items():
        if vectors[name].shape[0] != len(ids):
            raise VectorFileError(
                f"{source}: {vectors[name].shape[0]} vectors, but {where} has {len(ids)} ids. "
                "Both must have the same rows."
            )
    wanted = pd.Index(tiles.id.astype(str))
    rows = ids.get_indexer(wanted).astype(np.int64)
    if (rows < 0).all():
        raise VectorFileError(
            f"{where}: none of its ids is one of the table's: {', '.join(ids[:3])} …, expected such as "
            f"{', '.join(wanted[:3])} …. Are these the ids of [tiles] id?"
        )
    return rows, len(ids) - int((rows >= 0).sum())


def _check_shapes(
    named: Mapping[Cut, str], sources: Mapping[str, VectorSource], vectors: Mapping[str, Vectors]
) -> None:
    for cut in named:
        shape = vectors[cut.dataset].shape
        n_axes = 4 if cut.pooling == "map" else 2
        if len(shape) != n_axes:
            raise VectorFileError(
                f"{sources[cut.dataset]}: expected {'(n, h, w, c)' if n_axes == 4 else '(n, d)'} for the pooling "
                f"{cut.pooling!r}, got shape {shape}. {'Use avg, max or flat' if n_axes == 4 else 'Use map'}."
            )


def _make_room(job: BackboneShards, *, fresh: bool) -> None:
    there = [*job.folder.glob("part-*.h5"), *([job.virtual] if job.virtual.is_file() else [])]
    if there and not fresh:
        raise VectorFileError(
            f"{job.virtual}: there are features of {job.backbone!r} already. Name the backbone otherwise, or "
            "replace them with --fresh."
        )
    job.folder.mkdir(exist_ok=True)
    for path in [*there, *job.folder.glob("*.partial")]:
        path.unlink()


def _attributes(
    settings: ExtractSettings,
    tiles: Tiles,
    where: VectorSource,
    sources: Mapping[str, VectorSource],
) -> dict[str, Any]:
    return {
        "settings": json.dumps(settings.as_json()),
        "recipe": json.dumps({"shard": settings.extract.shard}),
        "weights": IMPORTED,
        "weights_are_random": False,
        "weights_sha256": hash_sources([where, *sources.values()]),
        "tiles_sha256": tiles.sha256,
        "precision": IMPORTED,
        "precision_note": "",
        "device": "",
        "created_with": f"roofline {version('roofline')}, import",
        "imported_from": json.dumps(
            {"ids": str(where), **{name: str(source) for name, source in sources.items()}}
        ),
    }


def _write(
    job: BackboneShards,
    vectors: Mapping[str, Vectors],
    rows: NDArray[np.int64],
    *,
    attributes: dict[str, Any],
    done: Imported,
) -> None:
    shapes = {name: tuple(v.shape[1:]) for name, v in vectors.items()}
    dtype = job.settings.extract.dtype
    step = max(1, _BATCH_BYTES // (4 * sum(int(np.prod(shape)) for shape in shapes.values())))
    for path, part in zip(job.shards, job.slices, strict=True):
        writer = ShardWriter(
            path, job.tiles.id.iloc[part], shapes, dtype=dtype, attributes=attributes
        )
        try:
            for batch in _batches(rows[part], step):
                blocks = {name: _take(v, batch) for name, v in vectors.items()}
                writer.append(blocks, _judge(batch, blocks, done, dtype=dtype))
            writer.close()
        except BaseException:
            writer.discard()
            raise
    write_virtual(job.virtual, job.shards)


def _batches(rows: NDArray[np.int64], step: int) -> Iterator[NDArray[np.int64]]:
    return (rows[start : start + step] for start in range(0, len(rows), step))


def _take(vectors: Vectors, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    block = np.zeros((len(rows), *vectors.shape[1:]), np.float32)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is rejected as such
        block[rows >= 0] = vectors.take(rows[rows >= 0])
    return block


def _judge(
    rows: NDArray[np.int64],
    blocks: Mapping[str, NDArray[np.float32]],
    done: Imported,
    *,
    dtype: str,
) -> list[str]:
    """Return the reason to reject each row, empty where there is none, and count."""
    flat = [block.reshape(len(rows), -1) for block in blocks.values()]
    is_bad = ~np.logical_and.reduce([np.isfinite(block).all(axis=1) for block in flat])
    done.n_absent += int((rows < 0).sum())
    done.n_bad += int((is_bad & (rows >= 0)).sum())
    done.n_clipped += sum(
        int((np.abs(block[~is_bad]) > np.finfo(dtype).max).sum()) for block in flat
    )
    return [
        _ABSENT if row < 0 else _BAD if bad else "" for row, bad in zip(rows, is_bad, strict=True)
    ]
