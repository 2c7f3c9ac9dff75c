"""Import embeddings from elsewhere into the layout that everything after extraction reads."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from extract.config.arrays import Float32s, Ints
from extract.config.cuts import Cut, parse_cut
from extract.errors import VectorFileError
from extract.files.locks import locked
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.recipes import IMPORTED
from extract.store.schema import ShardAttributes
from extract.store.shards import ShardWriter, write_virtual
from extract.store.stored_type import describe_loss
from extract.store.vector_files import (
    Vectors,
    VectorSource,
    open_vectors,
    parse_source,
    read_ids,
    take_rows,
)
from extract.tables.table_file import list_columns
from extract.tables.tile_table import Tiles, read_tiles

_BATCH_BYTES = 1 << 26
_PROBE_ROWS = 4096
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
    taken : of each cut, in words, what of its file.
    notes : what the user should know of how the stored type was chosen.
    """

    path: Path
    n_tiles: int
    n_extra: int
    n_absent: int = 0
    n_bad: int = 0
    n_clipped: int = 0
    taken: dict[str, str]
    notes: list[str] = field(default_factory=list)


def import_embeddings(
    settings: ExtractSettings,
    cuts: Mapping[str, str],
    *,
    ids: str,
    version: str = "",
    fresh: bool = False,
) -> ImportSummary:
    """Write `features/<backbone>.h5` from ids and vectors that something else made.

    Row i is tile i of the table. An import that was killed is begun anew.

    Parameters
    ----------
    cuts : `<backbone>/<layer>:<pooling>` → `FILE` or `FILE:NAME` of its vectors, (n, d), or
        (n, h, w, c) for `map`; of one backbone. Files are .npy, .h5 or .parquet.
    ids : `FILE` or `FILE:NAME`, the ids of the vectors' rows.
    version : of what made the vectors. Models predict other places from vectors of the same
        backbone and version alone.
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
    sources = {cut: parse_source(text) for cut, text in named.items()}
    table = settings.tiles.table
    not_vectors = {id_source.name or "id"}
    if table is not None:
        not_vectors.update(list_columns(table))
    with locked(settings.folder / "features"), ExitStack() as opened:
        known = read_ids(id_source)
        found = {}
        for cut, source in sources.items():
            context = open_vectors(source, not_vectors=not_vectors)
            found[cut] = opened.enter_context(context)
            _check_shape(cut, source, found[cut].values.shape)
            _check_length(source, id_source, len(found[cut].values), len(known))
        vectors = {cut.dataset: opened_one.values for cut, opened_one in found.items()}
        rows = _match(known, tiles, id_source)
        _clear(target, fresh=fresh)
        summary = ImportSummary(
            path=target.virtual,
            n_tiles=len(tiles),
            n_extra=len(known) - int((rows >= 0).sum()),
            taken={str(cut): opened_one.taken for cut, opened_one in found.items()},
        )
        datasets = {cut.dataset: source for cut, source in sources.items()}
        attributes = _describe(target, id_source, datasets, version=version)
        _write(target, vectors, rows, attributes, summary)
    return summary


def _check_length(source: VectorSource, ids: VectorSource, n_vectors: int, n_ids: int) -> None:
    if n_vectors != n_ids:
        raise VectorFileError(
            f"{source}: {n_vectors} vectors, but {ids} has {n_ids} ids. "
            "Both must have the same rows."
        )


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
    """Remove earlier features of that name, or refuse to; what a killed import left is removed."""
    existing = target.list_existing()
    was_killed = target.are_imported(existing) and not target.is_whole()
    is_there = bool(existing) or target.virtual.is_file()
    if is_there and not fresh and not was_killed:
        raise VectorFileError(
            f"{target.virtual}: there are features of {target.backbone!r} already. Name the "
            "backbone otherwise, or replace them with --fresh."
        )
    target.folder.mkdir(exist_ok=True)
    target.clear()


def _describe(
    target: BackboneShards,
    ids: VectorSource,
    sources: Mapping[str, VectorSource],
    *,
    version: str,
) -> ShardAttributes:
    origin = {"ids": str(ids)} | {name: str(source) for name, source in sources.items()}
    extract = target.settings.extract
    return ShardAttributes(
        settings=json.dumps(target.settings.as_json()),
        recipe=json.dumps({"shard": extract.shard, "dtype": extract.dtype}),
        weights=IMPORTED,
        weights_are_random=False,
        weights_sha256=hash_version(target.backbone, version),
        tiles_sha256=target.tiles_sha256,
        precision=IMPORTED,
        precision_note="",
        device="",
        created_with=f"roofline {metadata.version('roofline')}, import",
        imported_from=json.dumps(origin),
        imported_version=version,
    )


def hash_version(backbone: str, version: str) -> str:
    """Return what imports of one backbone and version have in common, in place of weights."""
    text = f"{IMPORTED}\0{backbone}\0{version}"
    return hashlib.sha256(text.encode()).hexdigest()


def _write(
    target: BackboneShards,
    vectors: Mapping[str, Vectors],
    rows: Ints,
    attributes: ShardAttributes,
    summary: ImportSummary,
) -> None:
    """Write all shards and the virtual file, and count into the summary."""
    dtypes = _choose_dtypes(target, vectors, rows, summary)
    shapes = {name: tuple(values.shape[1:]) for name, values in vectors.items()}
    n_numbers = sum(math.prod(shape) for shape in shapes.values())
    step = max(1, _BATCH_BYTES // (4 * n_numbers))
    for path, part in zip(target.shards, target.slices, strict=True):
        ids = target.tiles.id.iloc[part]
        writer = ShardWriter(path, ids, shapes, dtype=dtypes, attributes=attributes)
        try:
            for start in range(part.start, part.stop, step):
                batch = rows[start : min(start + step, part.stop)]
                blocks = {name: _take(values, batch) for name, values in vectors.items()}
                writer.append(blocks, _judge(batch, blocks, summary, dtypes))
            writer.close()
        finally:
            writer.discard()
    write_virtual(target.virtual, target.shards)


def _choose_dtypes(
    target: BackboneShards, vectors: Mapping[str, Vectors], rows: Ints, summary: ImportSummary
) -> dict[str, str]:
    """Return the type to store each cut in: that of the settings, or float32 where it loses."""
    dtype = target.settings.extract.dtype
    known = rows[rows >= 0]
    dtypes: dict[str, str] = {}
    for name, values in vectors.items():
        most = max(1, _BATCH_BYTES // (4 * math.prod(values.shape[1:])))
        n_rows = min(len(known), most, _PROBE_ROWS)
        places = np.linspace(0, len(known) - 1, n_rows).astype(np.int64)
        loss = describe_loss(_take(values, known[places]), dtype)
        dtypes[name] = "float32" if loss else dtype
        if loss:
            summary.notes.append(f"{target.backbone}/{name}: {loss}; stored as float32.")
    return dtypes


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
    dtypes: Mapping[str, str],
) -> list[str]:
    """Return the reason to reject each row, empty where there is none, and count."""
    is_absent = rows < 0
    is_bad = np.zeros(len(rows), np.bool_)
    flat = {name: block.reshape(len(rows), -1) for name, block in blocks.items()}
    for values in flat.values():
        is_bad |= ~np.isfinite(values).all(axis=1)
    for name, values in flat.items():
        largest = np.finfo(dtypes[name]).max
        summary.n_clipped += int((np.abs(values[~is_bad]) > largest).sum())
    summary.n_absent += int(is_absent.sum())
    summary.n_bad += int(is_bad.sum())
    return np.select([is_absent, is_bad], [_ABSENT, _BAD], "").tolist()
