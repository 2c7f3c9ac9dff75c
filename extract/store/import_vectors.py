"""Import embeddings from elsewhere into the layout that everything after extraction reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
import pandas as pd

from extract.config.arrays import Ints
from extract.config.cuts import Cut, parse_cut
from extract.errors import VectorFileError
from extract.files.locks import locked
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.incoming import (
    ImportSummary,
    Incoming,
    Origin,
    check_absent,
    write_incoming,
)
from extract.store.vector_files import (
    VectorSource,
    open_vectors,
    parse_source,
    read_ids,
)
from extract.tables.table_file import list_columns
from extract.tables.tile_table import Tiles, read_tiles

_ABSENT = "no vector in the import"


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
        check_absent(target, fresh=fresh)
        summary = ImportSummary(
            path=target.virtual,
            n_tiles=len(tiles),
            n_extra=len(known) - int((rows >= 0).sum()),
            taken={str(cut): opened_one.taken for cut, opened_one in found.items()},
        )
        named_sources = {cut.dataset: str(source) for cut, source in sources.items()}
        origin = Origin(json.dumps({"ids": ids} | named_sources), version)
        incoming = Incoming(vectors, rows, np.full(len(tiles), _ABSENT, object))
        write_incoming(target, incoming, origin, summary)
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
