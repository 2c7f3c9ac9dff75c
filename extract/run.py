"""Run one extraction, from settings to features: make what is missing, keep what is there."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from extract.config.cuts import PIXELS
from extract.errors import ExtractionError
from extract.execution.engine import make_missing
from extract.execution.workers import list_gpus
from extract.files.atomic import write_atomically
from extract.files.locks import locked
from extract.loop.pipeline import OpenForward
from extract.pictures.archives import open_images
from extract.pictures.image_folder import Images, plain_name
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards, check_backbone_shards
from extract.store.columns import read_rejects
from extract.tables.spreadsheets import quote_formulas
from extract.tables.text_columns import pack_texts, release_freed_memory
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.stages import (
    BackboneStages,
    WorkerRecord,
    describe_bottleneck,
    sum_records,
    write_stages,
)

OnProgress = Callable[[int, int, int], None]  # tiles done, tiles to do, tiles rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did.

    Attributes
    ----------
    n_tiles, n_rejected, n_unlisted : tiles in the table, rejects, pictures that the table lacks.
    done : backbones worked on. `stages` : their stages. `verdict` : what bounded the run.
    notes : what the user should know: a precision that was not taken, GPUs that were not used,
        a file system without locks.
    """

    n_tiles: int
    n_rejected: int
    n_unlisted: int
    done: list[str]
    stages: dict[str, BackboneStages]
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
    on_tiles: OnProgress | None = None,
    open_forward: OpenForward | None = None,
) -> Summary:
    """Embed every tile of the table with every backbone, doing only what is not done.

    Parameters
    ----------
    fresh : throw away what other settings made, instead of refusing.
    strict : a tile that cannot be used is an error.
    retry : look again at tiles that were rejected, also where their pictures did not change.
    allow_random : take seeded random weights where ImageNet's cannot be had; the files say so.
    on_tiles : called after every batch (with several workers: after every range of shards).
    open_forward : stands in for `extract.networks.forward.open_forward`; with workers, a function
        that they can import.

    Raises
    ------
    ExtractionError : the folder holds other settings' work, or every tile was rejected.
    LockError : the folder is in use, or cannot be written.
    WorkerError : a worker died, or no cluster answers.
    TableError, NetworkError : input that cannot be used.
    """
    tiles = read_tiles(settings)
    features = settings.folder / "features"
    records: list[WorkerRecord] = []
    with locked(features) as note:
        backbones = check_backbone_shards(settings, tiles, fresh=fresh, retry=retry)
        backbones.sort(key=lambda backbone: backbone.is_imported)  # those that read pictures first
        images = None if backbones[0].is_imported else open_images(settings.tiles)
        pending = [backbone for backbone in backbones if backbone.missing]
        if pending:
            records = make_missing(
                settings,
                tiles,
                pending,
                allow_random=allow_random,
                strict=strict or settings.tiles.strict,
                on_tiles=_count_progress(pending, on_tiles),
                open_forward=open_forward,
            )
        rejects, n_unlisted = _write_lists(features, tiles, backbones, images)
        stages = sum_records(records)
        write_stages(features, stages, settings.extract.backbones)
        notes = [note, *_list_notes(settings, stages), *_note_missing(backbones, rejects)]
    return Summary(
        n_tiles=len(tiles),
        n_rejected=len(rejects),
        n_unlisted=n_unlisted,
        done=[backbone.backbone for backbone in pending],
        stages=stages,
        verdict=describe_bottleneck(records) if any(s["tiles"] for s in stages.values()) else "",
        notes=[text for text in notes if text],
        features=features,
    )


def _note_missing(backbones: list[BackboneShards], rejects: dict[int, str]) -> list[str]:
    """Say how many pictures are gone whose rows were kept."""
    if backbones[0].is_imported:
        return []
    is_missing = backbones[0].stamp(slice(0, len(backbones[0].tiles))) == 0
    is_missing[list(rejects)] = False
    n_missing = int(is_missing.sum())
    if not n_missing:
        return []
    return [f"{n_missing} pictures are no longer there; what was made of them is kept."]


def _count_progress(
    pending: list[BackboneShards], on_tiles: OnProgress | None
) -> Callable[[int, int], None]:
    """Return a function that adds up batches and reports the sums."""
    slices = pending[0].slices
    shards = {index for backbone in pending for index in backbone.missing}
    n_todo = sum(slices[index].stop - slices[index].start for index in shards)
    n_done = 0
    n_rejected = 0

    def count(more_done: int, more_rejected: int) -> None:
        nonlocal n_done, n_rejected
        n_done += more_done
        n_rejected += more_rejected
        if on_tiles:
            on_tiles(n_done, n_todo, n_rejected)

    return count


def _list_notes(settings: ExtractSettings, stages: dict[str, BackboneStages]) -> list[str]:
    notes = [f"{name}: {part['note']}" for name, part in stages.items() if part["note"]]
    on_cpu = [name for name, part in stages.items() if part["device"] == "cpu" and name != PIXELS]
    extract = settings.extract
    is_chosen = extract.engine == "dask" or extract.runtime in ("ncnn", "openvino")
    gpus = list_gpus() if on_cpu and not is_chosen else []
    if gpus:
        notes.append(
            f"{', '.join(on_cpu)} ran on the CPU, and this machine has {len(gpus)} GPUs. Install "
            "the extra `gpu`, or set KERAS_BACKEND to a backend that sees them; "
            "`python -m extract doctor` looks."
        )
    return notes


def _write_lists(
    features: Path, tiles: Tiles, backbones: list[BackboneShards], images: Images | None
) -> tuple[dict[int, str], int]:
    """Write the virtual files, rejects.csv and unlisted.csv.

    Parameters
    ----------
    backbones : those that read pictures first.
    images : None where all features were imported, and no picture was read.

    Returns
    -------
    Row → reason of the rejected tiles, and the count of pictures that the table does not name.
    """
    try:
        rejects = read_rejects(backbones[0].shards)
        rows = list(rejects)
        columns = {"id": tiles.id.iloc[rows], "path": tiles.path.iloc[rows]}
        table = pd.DataFrame(columns).assign(reason=list(rejects.values()))
        _write_csv(table, features / "rejects.csv")
        unlisted = _list_unlisted(images, tiles.path) if images else []
        _write_csv(pd.DataFrame({"path": unlisted}), features / "unlisted.csv")
        if len(rejects) == len(tiles):
            _refuse_all(features, tiles, backbones, rejects[0])
        for backbone in backbones:
            backbone.finish()
    except OSError as error:
        raise ExtractionError(
            f"writing failed: {error}. Every shard is kept; "
            "make room, then run the same command again."
        ) from error
    return rejects, len(unlisted)


def _refuse_all(features: Path, tiles: Tiles, backbones: list[BackboneShards], reason: str) -> None:
    for backbone in backbones:
        backbone.clear()
    raise ExtractionError(
        f"every tile was rejected, the first as {tiles.path.iloc[0]}: {reason} (all in "
        f"{features / 'rejects.csv'}). Are [tiles] images and path right?"
    )


def _list_unlisted(images: Images, listed: pd.Series[str]) -> list[str]:
    """List the pictures, by the suffixes of the table's, that the table does not name."""
    with release_freed_memory():
        suffixes = {path.rpartition(".")[2] for path in listed}
        names = (name for name in images.names() if name.rpartition(".")[2] in suffixes)
        found = pack_texts(_as_utf8(plain_name(name)) for name in names)
        known = pa.array(map(plain_name, listed), pa.large_string())
        is_listed = pc.is_in(pa.array(found, pa.large_string()), value_set=known)
        return sorted(found[~is_listed.to_numpy(zero_copy_only=False)])


def _as_utf8(name: str) -> str:
    """Return a file's name as text that can be written, also where its bytes are no UTF-8."""
    return os.fsencode(name).decode(errors="backslashreplace")


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    texts: pd.DataFrame = table.select_dtypes("str")
    has_returns = any(texts[name].str.contains("\r", regex=False).any() for name in texts)
    quoting = csv.QUOTE_ALL if has_returns else csv.QUOTE_MINIMAL  # pandas quotes no \r
    with write_atomically(path) as partial:
        quote_formulas(table).to_csv(partial, index=False, quoting=quoting)
