"""Read every embeddings file back against its checksums, and name what is damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from extract.errors import EmbeddingsError
from extract.settings import ExtractSettings
from extract.store.backbone_shards import IMPORTED, BackboneShards
from extract.store.embeddings import (
    as_bytes,
    dataset_names,
    decode_ids,
    encode_ids,
    get_attributes,
    hash_file,
    open_embeddings,
    read_columns,
)
from extract.tables.tile_table import Tiles, read_tiles

_BLOCK_BYTES = 1 << 23
_THREADS = 4
_UNSEALED = "attributes: differ from their checksum"
_DAMAGE = (EmbeddingsError, OSError, RuntimeError, ValueError, KeyError)  # HDF5 raises any of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One file that cannot be trusted.

    Attributes
    ----------
    path, reason : which, and why.
    is_missing : not there at all.
    is_foreign : whole, but made with other settings.
    """

    path: Path
    reason: str
    is_missing: bool = False
    is_foreign: bool = False


def find_damage(
    settings: ExtractSettings, *, on_file: Callable[[Path], None] | None = None
) -> list[Damage]:
    """Read back every shard and virtual file of the backbones that the settings name.

    Parameters
    ----------
    on_file : called with each shard that was read.

    Returns
    -------
    Damaged and missing files, in order; empty where all is well.

    Raises
    ------
    EmbeddingsError : there is nothing to verify, or all of it was made with other settings.
    """
    tiles = read_tiles(settings)
    tiles_sha256 = tiles.sha256
    found: list[Damage] = []
    for backbone in settings.extract.backbones:
        wanted = BackboneShards(settings, tiles, backbone, tiles_sha256=tiles_sha256)
        shards = _list_expected(wanted)
        damaged = []
        with ThreadPoolExecutor(_THREADS) as pool:
            examined = pool.map(partial(_examine, wanted=wanted), shards)
            for shard, damage in zip(shards, examined, strict=True):
                damaged += [damage] if damage else []
                if on_file:
                    on_file(shard)
        foreign = [damage.reason for damage in damaged if damage.is_foreign]
        if foreign and len(foreign) == sum(shard.is_file() for shard in shards):
            raise EmbeddingsError(
                f"{wanted.folder}: whole, but {foreign[0]}. Restore the setting or the table, or "
                "make the features anew: `make features FRESH=1`."
            )
        found += damaged or _examine_virtual(wanted.virtual, shards, tiles)
    return found


def _list_expected(wanted: BackboneShards) -> list[Path]:
    """Return the shards that exist and those that the table needs; of an import those that do."""
    existing = wanted.list_existing()
    if not existing:
        raise EmbeddingsError(f"{wanted.folder}: no shards. Run `make features` first.")
    if wanted.are_imported(existing):
        return existing
    return sorted({*existing, *wanted.shards})


def _examine(shard: Path, wanted: BackboneShards) -> Damage | None:
    """Describe what is wrong with a shard; None where all is well."""
    if not shard.is_file():
        return Damage(path=shard, reason="missing", is_missing=True)
    try:
        with open_embeddings(shard) as file:
            damage = "; ".join(_find_wrong_sums(file))
            if damage:
                return Damage(path=shard, reason=damage)
            if file.attrs.get("weights") == IMPORTED:
                return None  # compared with the table by the virtual file
            differs = _compare_settings(shard, file, wanted)
            if differs:
                return Damage(path=shard, reason=differs, is_foreign=True)
            rows = wanted.slices[wanted.shards.index(shard)]
            if decode_ids(file["id"][:]).tolist() != wanted.tiles.id.iloc[rows].tolist():
                reason = "id: not those of its rows of the table; was it renamed?"
                return Damage(path=shard, reason=reason)
    except _DAMAGE as error:
        return Damage(path=shard, reason=_describe_unreadable(shard, error))
    return None


def _describe_unreadable(path: Path, error: Exception) -> str:
    return f"cannot be read: {str(error).removeprefix(f'{path}: ')}"


def _compare_settings(shard: Path, file: h5py.File, wanted: BackboneShards) -> str:
    """Describe in what a shard is not one of those wanted; empty where it is."""
    differs = wanted.difference(get_attributes(file))
    if differs:
        return f"made with other settings: {differs}"
    if shard not in wanted.shards:
        n_tiles = len(wanted.tiles)
        return f"one too many: the table's {n_tiles} rows need {len(wanted.shards)} shards"
    return ""


def _find_wrong_sums(file: h5py.File) -> Iterator[str]:
    """Describe what differs from its checksum; version 1 has checksums of the cuts alone."""
    for name in dataset_names(file):
        expected = file[name].attrs.get("sha256")
        if (_is_sealed(file) or expected is not None) and expected != digest(file[name]):
            yield f"{name}: data differ from their checksum"
    if _is_sealed(file) and file.attrs.get("sha256") != hash_file(file):
        yield _UNSEALED


def _is_sealed(file: h5py.File) -> bool:
    """Return whether everything has a checksum, as from version 2 on."""
    return int(file.attrs["schema_version"]) >= 2


def digest(dataset: h5py.Dataset) -> str:
    """Compute a dataset's SHA-256, reading a few MiB at a time."""
    row_bytes = int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    rows = dataset.asstr() if dataset.dtype == object else dataset
    total = hashlib.sha256()
    for start in range(0, len(dataset), step):
        total.update(as_bytes(rows[start : start + step]))
    return total.hexdigest()


def _examine_virtual(path: Path, shards: list[Path], tiles: Tiles) -> list[Damage]:
    """Compare the virtual file with its shards, and its ids with the table's."""
    if not path.is_file():
        return [Damage(path=path, reason="missing", is_missing=True)]
    try:
        with open_embeddings(path) as file:
            reason = "; ".join(_compare_virtual(file, shards, tiles))
    except _DAMAGE as error:
        reason = _describe_unreadable(path, error)
    return [Damage(path=path, reason=reason)] if reason else []


def _compare_virtual(file: h5py.File, shards: list[Path], tiles: Tiles) -> Iterator[str]:
    if not np.array_equal(file["id"][:], encode_ids(tiles.id)):
        yield "id: differs from the table"
    for name, parts in read_columns(shards).items():
        if name not in file or as_bytes(file[name][:]) != as_bytes(np.concatenate(parts)):
            yield f"{name}: differs from the shards"
    names = [f"{shard.parent.name}/{shard.name}" for shard in shards]
    for name, data in file["cuts"].items():
        if sorted(source.file_name for source in data.virtual_sources()) != names:
            yield f"cuts/{name}: does not show the shards"
    if _is_sealed(file) and file.attrs.get("sha256") != hash_file(file):
        yield _UNSEALED


def move_aside(damaged: list[Damage]) -> list[Path]:
    """Rename damaged files to `.damaged`, so that the next run makes them, and them alone.

    Returns
    -------
    The new names.
    """
    there = [damage.path for damage in damaged if not damage.is_missing]
    return [path.replace(path.with_name(f"{path.name}.damaged")) for path in there]


def refuse(damaged: list[Damage], *, is_aside: bool) -> None:
    """Raise where anything is damaged.

    Parameters
    ----------
    is_aside : whether damaged files were moved aside.

    Raises
    ------
    EmbeddingsError : says how many files, and what to do.
    """
    if not damaged:
        return
    remedy = "Run `make features`"
    if not is_aside and not all(damage.is_missing for damage in damaged):
        remedy = "Set them aside with --set-aside. Then run `make features`"
    raise EmbeddingsError(
        f"damaged or missing files: {len(damaged)}. {remedy}: it makes these again, and them alone."
    )
