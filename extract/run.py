"""One extraction, from settings to features: what is missing is made, what is there is kept."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from extract.config.cuts import PIXELS
from extract.errors import ExtractionError, RejectedTile
from extract.execution.engine import make_missing, visible_gpus
from extract.files.atomic import publish
from extract.files.locks import locked
from extract.loop import OpenForward
from extract.pictures.archives import open_images
from extract.pictures.image_folder import Images
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards, check_backbone_shards
from extract.store.embeddings import read_rejects
from extract.tables.text_columns import pack_texts, thrifty
from extract.tables.tile_reader import Reader
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.clock import Clock
from extract.timing.stages import Record, say_verdict, sum_records, write_stages

_MISSING = "file missing"
_BACK = (
    "Pictures that were missing are there now: --retry (RETRY=1 for make) makes their shards again."
)
_LOOKS = 10_000  # rejected tiles, of which one that is there is looked for
_ROWS = 16384  # paths at once, where each becomes a Python object

__all__ = ["ExtractionError", "Progress", "Summary", "run_extraction"]


class Progress(Protocol):
    """Is told of tiles done and tiles to do, of those that networks still lack, and of tiles rejected."""

    def __call__(self, done: int, todo: int, rejected: int, /) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    n_tiles, n_rejected, n_unlisted : tiles in the table, rejects, pictures on disk that the table lacks.
    done : backbones worked on. `stages` : their stages, see `extract.stages`. `verdict` : what bounded the run.
    notes : what the user should know: a precision that was not taken, GPUs that were not used, a file system without locks.
    """

    n_tiles: int
    n_rejected: int
    n_unlisted: int
    done: list[str]
    stages: dict[str, Any]
    verdict: str
    notes: list[str]
    features: Path


def run_extraction(
    settings: ExtractSettings,
    *,
    fresh: bool = False,
    strict: bool = False,
    allow_random: bool = False,
    retry: bool = False,
    on_tiles: Progress | None = None,
    open_forward: OpenForward | None = None,
) -> Summary:
    """Embed every tile of the table with every backbone, doing only what is not done.

    Parameters
    ----------
    settings : the checked settings.
    fresh : throw away what other settings made, instead of refusing.
    strict : a tile that cannot be used is an error.
    retry : make shards again in which a tile was rejected that can be used now.
    allow_random : take seeded random weights where ImageNet's cannot be had; the files say so.
    on_tiles : called after every batch (with several workers: after every range of shards).
    open_forward : stands in for `extract.networks.forward.open_forward`; with workers, a function that they can import.

    Raises
    ------
    ExtractionError : the folder holds other settings' work, or cannot be written; a worker died; every tile was rejected.
    LockError : the folder is in use, or cannot be written.
    TableError, NetworkError : input that cannot be used.
    """
    tiles = read_tiles(settings)
    features = settings.folder / "features"
    with locked(features) as note:
        jobs = sorted(
            check_backbone_shards(settings, tiles, fresh=fresh), key=lambda job: job.is_imported
        )
        images = None if jobs[0].is_imported else open_images(settings.tiles)
        if retry and images:
            reader = Reader(settings, tiles)
            for job in jobs:
                job.retry(partial(_is_usable, reader))
        pending = [job for job in jobs if job.missing]
        n_todo = sum(
            len(range(len(tiles))[jobs[0].slices[i]])
            for i in {i for job in pending for i in job.missing}
        )
        records = (
            make_missing(
                settings,
                tiles,
                pending,
                allow_random=allow_random,
                strict=strict or settings.tiles.strict,
                on_tiles=_Count(n_todo, on_tiles),
                open_forward=open_forward,
            )
            if pending
            else []
        )
        rejects, n_unlisted = _finish(settings, tiles, jobs, images)
        stages = sum_records(records)
        write_stages(features, stages, settings.extract.backbones)
        if len(rejects) == len(tiles):
            for job in jobs:
                job.clear()
            raise ExtractionError(
                f"every tile was rejected, the first as {tiles.path.iloc[0]}: {rejects[0]} (all in "
                f"{features / 'rejects.csv'}). Are [tiles] images and path right?"
            )
        if images and _are_back(images, tiles, rejects):
            note = f"{note} {_BACK}".strip()
    return Summary(
        n_tiles=len(tiles),
        n_rejected=len(rejects),
        n_unlisted=n_unlisted,
        done=[j.backbone for j in pending],
        stages=stages,
        verdict=say_verdict(records) if records else "",
        notes=_notes(settings, note, records),
        features=features,
    )


class _Count:
    """Adds up batches for whoever shows the progress."""

    def __init__(self, n_todo: int, progress: Progress | None) -> None:
        self._n_todo = n_todo
        self._progress = progress
        self._done = 0
        self._rejected = 0

    def __call__(self, n_tiles: int, n_rejected: int) -> None:
        self._done = self._done + n_tiles
        self._rejected = self._rejected + n_rejected
        if self._progress:
            self._progress(self._done, self._n_todo, self._rejected)


def _notes(settings: ExtractSettings, note: str, records: list[Record]) -> list[str]:
    notes = [
        f"{name}: {part['note']}"
        for r in records
        for name, part in r["backbones"].items()
        if part["note"]
    ]
    on_cpu = dict.fromkeys(
        name
        for r in records
        for name, part in r["backbones"].items()
        if name != PIXELS and part["device"] == "cpu"
    )
    is_chosen = settings.extract.engine == "dask" or settings.extract.runtime in (
        "ncnn",
        "openvino",
    )
    if on_cpu and not is_chosen and (there := visible_gpus()):
        notes.append(
            f"{', '.join(on_cpu)} ran on the CPU, and this machine has {len(there)} GPUs. Install the extra `gpu`, or "
            "set KERAS_BACKEND to a backend that sees them; `python -m extract doctor` looks."
        )
    return list(dict.fromkeys([note, *notes] if note else notes))


def _finish(
    settings: ExtractSettings, tiles: Tiles, jobs: list[BackboneShards], images: Images | None
) -> tuple[dict[int, str], int]:
    """Write the virtual files, rejects.csv and unlisted.csv; give the rejects and count the unlisted.

    Parameters
    ----------
    jobs : those that read pictures first. `images` : None where all features were imported, and none was read.
    """
    features = settings.folder / "features"
    try:
        for job in jobs:
            job.finish()
        rejects = read_rejects(jobs[0].shards)
        rows = list(rejects)
        table = pd.DataFrame(
            {
                "id": tiles.id.iloc[rows],
                "path": tiles.path.iloc[rows],
                "reason": list(rejects.values()),
            }
        )
        _write_csv(table, features / "rejects.csv")
        unlisted = pd.DataFrame({"path": _unlisted(images, tiles.path) if images else []})
        _write_csv(unlisted, features / "unlisted.csv")
    except OSError as error:
        raise ExtractionError(
            f"writing failed: {error}. Every shard is kept; "
            "make room, then run the same command again."
        ) from error
    return rejects, len(unlisted)


def _unlisted(images: Images, listed: pd.Series[str]) -> list[str]:
    """Return the pictures that the table does not name: files with an ending that the table's have."""
    with thrifty():
        endings = {
            ending
            for i in range(0, len(listed), _ROWS)
            for ending in map(_ending, listed.iloc[i : i + _ROWS].tolist())
        }
        names = pack_texts(_as_utf8(name) for name in images.names() if _ending(name) in endings)
        is_listed = pc.is_in(
            pa.array(names, pa.large_string()), value_set=pa.array(listed, pa.large_string())
        )
        return sorted(names[~is_listed.to_numpy(zero_copy_only=False)])


def _as_utf8(name: str) -> str:
    """Return a file's name as text that can be written, also where its bytes are none."""
    return name if name.isascii() else os.fsencode(name).decode(errors="backslashreplace")


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    return name.rpartition(".")[2] if "." in name else ""


def _are_back(images: Images, tiles: Tiles, rejects: dict[int, str]) -> bool:
    """Return whether a picture is there that was missing when its shard was made."""
    missing = islice((row for row, reason in rejects.items() if reason == _MISSING), _LOOKS)
    return any(_is_there(images, tiles.path.iloc[row]) for row in missing)


def _is_there(images: Images, path: str) -> bool:
    try:
        images.read(images.find(path))
    except RejectedTile as reason:
        return str(reason) != _MISSING
    return True


def _is_usable(reader: Reader, row: int) -> bool:
    return not reader.read(range(row, row + 1), Clock()).reasons[0]


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    has_returns = any(
        table[name].astype(str).str.contains("\r", regex=False).any() for name in table
    )  # pandas quotes no \r
    table.to_csv(partial, index=False, quoting=csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL)
    publish(partial, path)
