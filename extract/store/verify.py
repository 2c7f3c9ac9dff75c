"""Read every embeddings file back against its checksums, and name what is damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    open_embeddings,
    read_columns,
    seal,
)
from extract.tables.tile_table import Tiles, read_tiles

_BLOCK_BYTES = 1 << 23
_THREADS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One file that cannot be trusted: which, and why. `is_missing`: not there at all. `is_foreign`: whole, but another run's."""

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
    on_file : called with each file that was read.

    Returns
    -------
    Damaged and missing files, in order; empty where all is well.

    Raises
    ------
    EmbeddingsError : there is nothing to verify, or all of it was made with other settings.
    """
    tiles = read_tiles(settings)
    features = settings.folder / "features"
    found: list[Damage] = []
    for backbone in settings.extract.backbones:
        job = BackboneShards(settings, tiles, backbone, tiles_sha256=tiles.sha256)
        shards = _expected_shards(features / backbone, len(tiles))
        damaged = list(filter(None, _examine_all(shards, job, on_file or (lambda _: None))))
        foreign = [damage.reason for damage in damaged if damage.is_foreign]
        if foreign and len(foreign) == sum(shard.is_file() for shard in shards):
            raise EmbeddingsError(
                f"{features / backbone}: whole, but {foreign[0]}. Restore the setting or the table, or "
                "make the features anew: `make features FRESH=1`."
            )
        found += damaged or _check_virtual(features / f"{backbone}.h5", shards, tiles)
    return found


def _examine_all(
    shards: list[Path], job: BackboneShards, on_file: Callable[[Path], None]
) -> Iterator[Damage | None]:
    with ThreadPoolExecutor(_THREADS) as pool:
        for shard, damage in zip(
            shards, pool.map(lambda shard: _examine(shard, job), shards), strict=True
        ):
            on_file(shard)
            yield damage


def _expected_shards(folder: Path, n_tiles: int) -> list[Path]:
    """Return the shards that there should be: every number up to what the rows of the table need."""
    there = sorted(folder.glob("part-*.h5"))
    if not there:
        raise EmbeddingsError(f"{folder}: no shards. Run `make features` first.")
    size = next(filter(None, map(_shard_size, there)), None)
    n_shards = -(-n_tiles // size) if size else 0
    return sorted({*there, *(folder / f"part-{i:05d}.h5" for i in range(n_shards))})


def _shard_size(shard: Path) -> int | None:
    try:
        with open_embeddings(shard) as file:
            size = json.loads(file.attrs.get("recipe", "{}")).get("shard")
            return int(size) if size else None
    except (EmbeddingsError, OSError, ValueError):
        return None


def _examine(shard: Path, job: BackboneShards) -> Damage | None:
    """Describe what is wrong with a shard; nothing where all is well."""
    if not shard.is_file():
        return Damage(path=shard, reason="missing", is_missing=True)
    try:
        with open_embeddings(shard) as file:
            if reason := "; ".join(_differences(file)):
                return Damage(path=shard, reason=reason)
            other = _other_settings(shard, dict(file.attrs), job)
            if (
                not other
                and shard in job.shards
                and not _has_its_rows(file, job, job.shards.index(shard))
            ):
                return Damage(
                    path=shard, reason="id: not those of its rows of the table; was it renamed?"
                )
    except (
        EmbeddingsError,
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
    ) as error:  # HDF5 raises what it likes on damage
        return Damage(path=shard, reason=f"cannot be read: {str(error).removeprefix(f'{shard}: ')}")
    return Damage(path=shard, reason=other, is_foreign=True) if other else None


def _other_settings(shard: Path, attributes: dict[str, Any], job: BackboneShards) -> str:
    """Describe that a shard is another run's; those of an import are compared with the table by the file over them."""
    if attributes.get("weights") == IMPORTED:
        return ""
    differs = job.difference(attributes)
    if differs:
        return f"made with other settings: {differs}"
    return (
        ""
        if shard in job.shards
        else f"one too many: the table's {len(job.tiles)} rows need {len(job.shards)} shards"
    )


def _has_its_rows(file: h5py.File, job: BackboneShards, index: int) -> bool:
    """Return whether a shard's ids are those of its rows of the table; of an import nothing is said."""
    if file.attrs.get("weights") == IMPORTED:
        return True
    return decode_ids(file["id"][:]).tolist() == job.tiles.id.iloc[job.slices[index]].tolist()


def _differences(file: h5py.File) -> Iterator[str]:
    is_sealed = int(file.attrs["schema_version"]) >= 2  # version 1 summed up the cuts alone
    for name in dataset_names(file):
        expected = file[name].attrs.get("sha256")
        if expected is None and not is_sealed:
            continue
        if expected != digest(file[name]):
            yield f"{name}: data differ from their checksum"
    if is_sealed and file.attrs.get("sha256") != seal(file):
        yield "attributes: differ from their checksum"


def digest(dataset: h5py.Dataset) -> str:
    """Return a dataset's SHA-256, reading a few MiB at a time."""
    row_bytes = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    step = max(1, _BLOCK_BYTES // row_bytes)
    is_text = h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype == object
    rows = dataset.asstr() if is_text else dataset
    total = hashlib.sha256()
    for start in range(0, len(dataset), step):
        total.update(as_bytes(rows[start : start + step]))
    return total.hexdigest()


def _check_virtual(path: Path, shards: list[Path], tiles: Tiles) -> list[Damage]:
    """Compare the virtual file with its shards, and its ids with the table's."""
    if not path.is_file():
        return [Damage(path=path, reason="missing", is_missing=True)]
    try:
        with open_embeddings(path) as file:
            reasons = list(_virtual_differences(file, shards, tiles))
    except (EmbeddingsError, OSError, RuntimeError, ValueError, KeyError) as error:
        reasons = [f"cannot be read: {str(error).removeprefix(f'{path}: ')}"]
    return [Damage(path=path, reason="; ".join(reasons))] if reasons else []


def _virtual_differences(file: h5py.File, shards: list[Path], tiles: Tiles) -> Iterator[str]:
    if not np.array_equal(file["id"][:], encode_ids(tiles.id)):
        yield "id: differs from the table"
    for name, parts in read_columns(shards).items():
        if name not in file or as_bytes(file[name][:]) != as_bytes(np.concatenate(parts)):
            yield f"{name}: differs from the shards"
    names = [f"{shard.parent.name}/{shard.name}" for shard in shards]
    for name in file["cuts"]:
        if sorted(source.file_name for source in file[f"cuts/{name}"].virtual_sources()) != names:
            yield f"cuts/{name}: does not show the shards"
    if int(file.attrs["schema_version"]) >= 2 and file.attrs.get("sha256") != seal(file):
        yield "attributes: differ from their checksum"


def move_aside(damaged: list[Damage]) -> list[Path]:
    """Rename damaged files to `.damaged`, so that the next run makes them again, and them alone.

    Returns
    -------
    The new names.
    """
    moved = []
    for damage in damaged:
        if not damage.is_missing:
            moved.append(damage.path.with_name(damage.path.name + ".damaged"))
            damage.path.replace(moved[-1])
    return moved


def refuse(damaged: list[Damage], *, is_aside: bool) -> None:
    """Raise where anything is damaged.

    Raises
    ------
    EmbeddingsError : says how many files, and what to do.
    """
    if damaged:
        remedy = (
            ""
            if is_aside or all(damage.is_missing for damage in damaged)
            else "Set them aside with --set-aside. Then "
        )
        raise EmbeddingsError(
            f"damaged or missing files: {len(damaged)}. {remedy}" + f"{'r' if remedy else 'R'}un "
            "`make features`: it makes these again, and them alone."
        )
