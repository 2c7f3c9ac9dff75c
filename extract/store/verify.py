"""Read every embeddings file back against its checksums, and name what is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from extract.errors import EmbeddingsError, LockError
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.checksums import as_bytes, dataset_names, hash_dataset, hash_embeddings
from extract.store.columns import decode_ids, encode_ids, read_columns
from extract.store.recipes import IMPORTED, list_lacking
from extract.store.schema import UNREADABLE, UNSEALED, get_attributes, is_sealed, open_embeddings
from extract.tables.tile_table import Tiles, read_tiles

_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One file that cannot be trusted.

    Attributes
    ----------
    path, reason : which, and why.
    is_missing : not there at all.
    is_foreign : whole, but made with other settings.
    is_earlier : whole, but of other rows of the table: the next run uses its rows again.
    """

    path: Path
    reason: str
    is_missing: bool = False
    is_foreign: bool = False
    is_earlier: bool = False


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
            differs = wanted.difference(get_attributes(file))
            if differs:
                reason = f"made with other settings: {differs}"
                return Damage(path=shard, reason=reason, is_foreign=True)
            lacking = list_lacking(get_attributes(file), wanted.recipe)
            if lacking:
                reason = f"whole, but without {', '.join(lacking)}: it is made anew"
                return Damage(path=shard, reason=reason, is_earlier=True)
            if not _has_ids(shard, file, wanted):
                reason = "whole, but not of these rows of the table: they are used again"
                return Damage(path=shard, reason=reason, is_earlier=True)
    except LockError:
        raise
    except UNREADABLE as error:
        return Damage(path=shard, reason=_describe_unreadable(shard, error))
    return None


def _describe_unreadable(path: Path, error: Exception) -> str:
    return f"cannot be read: {str(error).removeprefix(f'{path}: ')}"


def _has_ids(shard: Path, file: h5py.File, wanted: BackboneShards) -> bool:
    """Return whether a shard has the tiles of its rows of the table."""
    if shard not in wanted.shards:
        return False
    rows = wanted.slices[wanted.shards.index(shard)]
    return decode_ids(file["id"][:]).tolist() == wanted.tiles.id.iloc[rows].tolist()


def _find_wrong_sums(file: h5py.File) -> Iterator[str]:
    """Describe what differs from its checksum; version 1 has checksums of the cuts alone."""
    for name in dataset_names(file):
        expected = file[name].attrs.get("sha256")
        if (is_sealed(file) or expected is not None) and expected != hash_dataset(file[name]):
            yield f"{name}: data differ from their checksum"
    if is_sealed(file) and file.attrs.get("sha256") != hash_embeddings(file):
        yield UNSEALED


def _examine_virtual(path: Path, shards: list[Path], tiles: Tiles) -> list[Damage]:
    """Compare the virtual file with its shards, and its ids with the table's."""
    if not path.is_file():
        return [Damage(path=path, reason="missing", is_missing=True)]
    try:
        with open_embeddings(path) as file:
            reason = "; ".join(_compare_virtual(file, shards, tiles))
    except LockError:
        raise
    except UNREADABLE as error:
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
    if is_sealed(file) and file.attrs.get("sha256") != hash_embeddings(file):
        yield UNSEALED


def move_aside(damaged: list[Damage]) -> list[Path]:
    """Rename damaged files to `.damaged`, so that the next run makes them, and them alone.

    Returns
    -------
    The new names.
    """
    there = [one.path for one in damaged if not one.is_missing and not one.is_earlier]
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
    if not is_aside and not all(one.is_missing or one.is_earlier for one in damaged):
        remedy = "Set them aside with --set-aside. Then run `make features`"
    raise EmbeddingsError(
        f"damaged or missing files: {len(damaged)}. {remedy}: it makes these again, and them alone."
    )
