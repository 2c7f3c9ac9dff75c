"""Import embeddings from elsewhere into the layout that everything after extraction reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config.arrays import Float32s, Ints
from extract.config.cuts import Cut, parse_cut
from extract.errors import VectorFileError
from extract.files.locks import locked
from extract.settings import ExtractSettings
from extract.store.backbone_shards import IMPORTED, BackboneShards
from extract.store.embeddings import ShardAttributes
from extract.store.shards import ShardWriter, write_virtual
from extract.store.vector_files import (
    Vectors,
    VectorSource,
    hash_sources,
    open_vectors,
    parse_source,
    read_ids,
    take_rows,
)
from extract.tables.tile_table import Tiles, read_tiles

_BATCH_BYTES = 1 << 26
_ABSENT = "no vector in the import"
_BAD = "NaN or infinity in the import"


@dataclass(slots=True, kw_only=True)
class ImportSummary:
    """What an import did.

    Attributes
    ----------
    path : the file written.
    n_tiles : tiles of the table.
    n_extra : vectors whose id the table lacks.
    n_absent, n_bad : tiles without a vector, and with one that is not finite: rejected rows.
    n_clipped : numbers beyond the stored type, which became its largest value.
    """

    path: Path
    n_tiles: int
    n_extra: int
    n_absent: int = 0
    n_bad: int = 0
    n_clipped: int = 0


def import_embeddings(
    settings: ExtractSettings, cuts: Mapping[str, str], *, ids: str, fresh: bool = False
) -> ImportSummary:
    """Write `features/<backbone>.h5` from ids and vectors that something else made.

    Row i is tile i of the table.

    Parameters
    ----------
    cuts : `<backbone>/<layer>:<pooling>` → `FILE` or `FILE:NAME` of its vectors, (n, d), or
        (n, h, w, c) for `map`; of one backbone. Files are .npy, .h5 or .parquet.
    ids : `FILE` or `FILE:NAME`, the ids of the vectors' rows.
    fresh : replace what is there.

    Raises
    ------
    VectorFileError : files that cannot be read, or do not fit each other or the table; features
        that are there already.
    LockError : the folder is in use.
    OSError : the disk is full.
    """
    named = _parse_cuts(cuts)
    tiles = read_tiles(settings)
    backbone = next(iter(named)).backbone
    target = BackboneShards(settings, tiles, backbone, tiles_sha256=tiles.sha256)
    id_source = parse_source(ids)
    sources = {cut.dataset: parse_source(text) for cut, text in named.items()}
    with locked(settings.folder / "features"), ExitStack() as opened:
        vectors: dict[str, Vectors] = {}
        known = read_ids(id_source)
        for cut in named:
            source = sources[cut.dataset]
            vectors[cut.dataset] = opened.enter_context(open_vectors(source, ids=id_source))
            shape = vectors[cut.dataset].shape
            _check_shape(cut, source, shape)
            if shape[0] != len(known):
                raise VectorFileError(
                    f"{source}: {shape[0]} vectors, but {id_source} has {len(known)} ids. "
                    "Both must have the same rows."
                )
        rows = _match(known, tiles, id_source)
        _clear(target, fresh=fresh)
        summary = ImportSummary(
            path=target.virtual,
            n_tiles=len(tiles),
            n_extra=len(known) - int((rows >= 0).sum()),
        )
        _write(target, vectors, rows, _describe(target, id_source, sources), summary)
    return summary


def _parse_cuts(cuts: Mapping[str, str]) -> dict[Cut, str]:
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


def _match(known: pd.Index, tiles: Tiles, source: VectorSource) -> Ints:
    """Return the row of each tile's vector, −1 where there is none."""
    wanted = pd.Index(tiles.id.astype(str))
    rows = known.get_indexer(wanted).astype(np.int64)
    if (rows < 0).all():
        raise VectorFileError(
            f"{source}: none of its ids is one of the table's: {', '.join(known[:3])} …, expected "
            f"such as {', '.join(wanted[:3])} …. Are these the ids of [tiles] id?"
        )
    return rows


def _check_shape(cut: Cut, source: VectorSource, shape: tuple[int, ...]) -> None:
    is_map = cut.pooling == "map"
    if len(shape) != (4 if is_map else 2):
        expected = "(n, h, w, c)" if is_map else "(n, d)"
        remedy = "Use avg, max or flat" if is_map else "Use map"
        raise VectorFileError(
            f"{source}: expected {expected} for the pooling {cut.pooling!r}, got shape {shape}. "
            f"{remedy}."
        )


def _clear(target: BackboneShards, *, fresh: bool) -> None:
    """Remove earlier features of that name, or refuse to."""
    if not fresh and (target.list_existing() or target.virtual.is_file()):
        raise VectorFileError(
            f"{target.virtual}: there are features of {target.backbone!r} already. Name the "
            "backbone otherwise, or replace them with --fresh."
        )
    target.folder.mkdir(exist_ok=True)
    target.clear()


def _describe(
    target: BackboneShards, ids: VectorSource, sources: Mapping[str, VectorSource]
) -> ShardAttributes:
    origin = {"ids": str(ids)} | {name: str(source) for name, source in sources.items()}
    return ShardAttributes(
        settings=json.dumps(target.settings.as_json()),
        recipe=json.dumps({"shard": target.settings.extract.shard}),
        weights=IMPORTED,
        weights_are_random=False,
        weights_sha256=hash_sources([ids, *sources.values()]),
        tiles_sha256=target.tiles_sha256,
        precision=IMPORTED,
        precision_note="",
        device="",
        created_with=f"roofline {version('roofline')}, import",
        imported_from=json.dumps(origin),
    )


def _write(
    target: BackboneShards,
    vectors: Mapping[str, Vectors],
    rows: Ints,
    attributes: ShardAttributes,
    summary: ImportSummary,
) -> None:
    """Write all shards and the virtual file, and count into the summary."""
    dtype = target.settings.extract.dtype
    shapes = {name: tuple(values.shape[1:]) for name, values in vectors.items()}
    n_numbers = sum(math.prod(shape) for shape in shapes.values())
    step = max(1, _BATCH_BYTES // (4 * n_numbers))
    for path, part in zip(target.shards, target.slices, strict=True):
        ids = target.tiles.id.iloc[part]
        writer = ShardWriter(path, ids, shapes, dtype=dtype, attributes=attributes)
        try:
            for start in range(part.start, part.stop, step):
                batch = rows[start : min(start + step, part.stop)]
                blocks = {name: _take(values, batch) for name, values in vectors.items()}
                writer.append(
                    blocks, _judge(batch, blocks, summary, largest=float(np.finfo(dtype).max))
                )
            writer.close()
        finally:
            writer.discard()
    write_virtual(target.virtual, target.shards)


def _take(vectors: Vectors, rows: Ints) -> Float32s:
    """Read the vectors of some tiles, zeros where a tile has none."""
    block = np.zeros((len(rows), *vectors.shape[1:]), np.float32)
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is rejected as such
        block[rows >= 0] = take_rows(vectors, rows[rows >= 0])
    return block


def _judge(
    rows: Ints,
    blocks: Mapping[str, Float32s],
    summary: ImportSummary,
    *,
    largest: float,
) -> list[str]:
    """Return the reason to reject each row, empty where there is none, and count."""
    values = np.hstack([block.reshape(len(rows), -1) for block in blocks.values()])
    is_absent = rows < 0
    is_bad = ~np.isfinite(values).all(axis=1)
    summary.n_absent += int(is_absent.sum())
    summary.n_bad += int(is_bad.sum())
    summary.n_clipped += int((np.abs(values[~is_bad]) > largest).sum())
    return np.select([is_absent, is_bad], [_ABSENT, _BAD], "").tolist()
