"""Write embeddings that something else made as shards that everything after extraction reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

from extract.config.arrays import Array, Float32s, Ints
from extract.config.stored_type import describe_loss
from extract.errors import VectorFileError
from extract.files.hashing import hash_text
from extract.store.backbone_shards import BackboneShards
from extract.store.recipes import IMPORTED
from extract.store.schema import ShardAttributes
from extract.store.shards import ShardWriter, write_virtual
from extract.store.vector_files import Vectors, take_rows

_BATCH_BYTES = 1 << 26
_PROBE_ROWS = 4096
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


class Incoming(NamedTuple):
    """Vectors from elsewhere, and which of them each tile has.

    Attributes
    ----------
    vectors : dataset of the cut → (n_vectors, …).
    rows : (n_tiles,), number of each tile's vector; −1 where it has none.
    reasons : (n_tiles,) text, why a tile has none.
    """

    vectors: Mapping[str, Vectors]
    rows: Ints
    reasons: Array


class Origin(NamedTuple):
    """Where vectors are from.

    Attributes
    ----------
    description : JSON, as it stands in the file.
    version : of what made them. Models predict other places from vectors of the same backbone and
        version alone.
    """

    description: str
    version: str


def check_absent(target: BackboneShards, *, fresh: bool) -> None:
    """Refuse to replace earlier features of that name, but what a killed import left."""
    existing = target.list_existing()
    was_killed = target.are_imported(existing) and not target.is_whole()
    is_there = bool(existing) or target.virtual.is_file()
    if is_there and not fresh and not was_killed:
        raise VectorFileError(
            f"{target.virtual}: there are features of {target.backbone!r} already. Name the "
            "backbone otherwise, or replace them with --fresh."
        )


def write_incoming(
    target: BackboneShards, incoming: Incoming, origin: Origin, summary: ImportSummary
) -> None:
    """Replace the features of a backbone, and count into the summary; the folder is locked."""
    target.folder.mkdir(exist_ok=True)
    target.clear()
    attributes = _describe(target, origin)
    vectors = incoming.vectors
    dtypes = _choose_dtypes(target, vectors, incoming.rows, summary)
    shapes = {name: tuple(values.shape[1:]) for name, values in vectors.items()}
    n_numbers = sum(math.prod(shape) for shape in shapes.values())
    step = max(1, _BATCH_BYTES // (4 * n_numbers))
    for path, part in zip(target.shards, target.slices, strict=True):
        ids = target.tiles.id.iloc[part]
        writer = ShardWriter(path, ids, shapes, dtype=dtypes, attributes=attributes)
        try:
            for start in range(part.start, part.stop, step):
                batch = slice(start, min(start + step, part.stop))
                rows = incoming.rows[batch]
                blocks = {name: _take(values, rows) for name, values in vectors.items()}
                reasons = _judge(rows, incoming.reasons[batch], blocks, summary, dtypes)
                writer.append(blocks, reasons)
            writer.close()
        finally:
            writer.discard()
    write_virtual(target.virtual, target.shards)


def _describe(target: BackboneShards, origin: Origin) -> ShardAttributes:
    extract = target.settings.extract
    return ShardAttributes(
        settings=json.dumps(target.settings.as_json()),
        recipe=json.dumps({"shard": extract.shard, "dtype": extract.dtype}),
        weights=IMPORTED,
        weights_are_random=False,
        weights_sha256=hash_version(target.backbone, origin.version),
        tiles_sha256=target.tiles_sha256,
        precision=IMPORTED,
        precision_note="",
        device="",
        created_with=f"roofline {metadata.version('roofline')}, import",
        imported_from=origin.description,
        imported_version=origin.version,
    )


def hash_version(backbone: str, version: str) -> str:
    """Return what imports of one backbone and version have in common, in place of weights."""
    text = f"{IMPORTED}\0{backbone}\0{version}"
    return hash_text(text)


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
    absent: Array,
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
    return np.select([is_absent, is_bad], [absent, _BAD], "").tolist()
