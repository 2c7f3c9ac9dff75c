"""The extraction loop: read, decode, forward, write; every stage timed, every complete shard kept."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd

from extract.archives import open_images
from extract.embeddings import ShardWriter, publish, read_attributes, read_rejects, write_virtual
from extract.reader import Batch, Clock, Reader
from extract.settings import Settings
from extract.tiles import Tiles, read_tiles

if TYPE_CHECKING:
    from extract.forward import Forward

_BATCHES_AHEAD = 3
Progress = Callable[[int, int], None]


class ExtractError(RuntimeError):
    """The extraction cannot start or go on; what is complete is kept, and the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run did: tiles in the table, rejects, pictures on disk that the table lacks, backbones worked on."""

    n_tiles: int
    n_rejected: int
    n_unlisted: int
    done: list[str]
    stages: dict[str, Any]
    features: Path


def run_extraction(settings: Settings, *, fresh: bool = False, strict: bool = False, allow_random: bool = False,
                   on_tiles: Progress | None = None) -> Summary:
    """Embed every tile of the table with every backbone, doing only what is not done.

    Parameters
    ----------
    settings : the checked settings.
    fresh : throw away what other settings made, instead of refusing.
    strict : a tile that cannot be used is an error.
    allow_random : take seeded random weights where ImageNet's cannot be had; the files say so.
    on_tiles : called with (tiles done, tiles to do) after every batch.

    Raises
    ------
    ExtractError : the folder is in use, holds other settings' work, or cannot be written.
    TableError, BackboneError : input that cannot be used.
    """
    tiles = read_tiles(settings)
    open_images(settings.tiles)
    features = settings.folder / "features"
    features.mkdir(parents=True, exist_ok=True)
    with _locked(features):
        jobs = [Job(settings, tiles, backbone, features, allow_random=allow_random) for backbone in settings.extract.backbones]
        for job in jobs:
            job.check(fresh=fresh)
        pending = [job for job in jobs if job.missing]
        stages = _work(pending, settings, tiles, strict=strict or settings.tiles.strict, on_tiles=on_tiles) if pending else {}
        for job in jobs:
            job.finish()
        n_rejected = _write_lists(jobs[0], settings, tiles)
        _write_stages(features, stages, settings.extract.backbones)
    if n_rejected == len(tiles):
        raise ExtractError(f"every tile was rejected: see {features / 'rejects.csv'}. Are [tiles] images and path right?")
    n_unlisted = len(pd.read_csv(features / "unlisted.csv"))
    return Summary(n_tiles=len(tiles), n_rejected=n_rejected, n_unlisted=n_unlisted, done=[j.backbone for j in pending],
                   stages=stages, features=features)


class Job:
    """One backbone's shards: which there are, which are missing, and whether they were made with these settings."""

    def __init__(self, settings: Settings, tiles: Tiles, backbone: str, features: Path, *, allow_random: bool) -> None:
        self.settings, self.tiles, self.backbone, self.allow_random = settings, tiles, backbone, allow_random
        self.folder, self.virtual = features / backbone, features / f"{backbone}.h5"
        extract = settings.extract
        starts = range(0, len(tiles), extract.shard)
        self.slices = [slice(start, min(start + extract.shard, len(tiles))) for start in starts]
        self.shards = [self.folder / f"part-{i:05d}.h5" for i in range(len(starts))]
        self.recipe = {
            "tiles": tiles.sha256, "cuts": [str(c) for c in extract.cuts_of(backbone)], "weights": extract.weights_of(backbone),
            "size": extract.size, "precision": extract.precision, "dtype": extract.dtype, "shard": extract.shard,
            "max_pixels": settings.tiles.max_pixels, **settings.tiles.look,
        }
        self.missing: list[int] = []
        self.weights_sha256: str | None = None
        self.precision: str | None = None

    def check(self, *, fresh: bool) -> None:
        """Find the missing shards; refuse what other settings made, or with `fresh` remove it."""
        there = [shard for shard in self.shards if shard.is_file()]
        others = [p for p in self.folder.glob("part-*.h5") if p not in self.shards]
        found = (there or others)[:1]
        differs = self._difference(found[0]) if found else None
        if differs and not fresh:
            raise ExtractError(f"{self.folder}: made with other settings: {differs}. Restore that setting, give the experiment "
                               "another name, or start anew with --fresh (FRESH=1 for make).")
        if differs or fresh:
            for path in [*self.folder.glob("part-*.h5"), self.virtual]:
                path.unlink(missing_ok=True)
            there = []
        elif there:
            attributes = read_attributes(there[0])
            self.weights_sha256, self.precision = attributes["weights_sha256"], attributes["precision"]
        self.missing = [i for i, shard in enumerate(self.shards) if shard not in there]
        self.folder.mkdir(exist_ok=True)
        for partial in self.folder.glob("*.partial"):
            partial.unlink()

    def _difference(self, shard: Path) -> str | None:
        made = json.loads(read_attributes(shard).get("recipe", "{}"))
        names = [key for key in self.recipe if made.get(key) != self.recipe[key]]
        return "; ".join(f"{key} was {made.get(key)!r}, now {self.recipe[key]!r}" for key in names) or None

    def open_shard(self, index: int, forward: Forward) -> ShardWriter:
        """Begin one shard."""
        rows = self.slices[index]
        return ShardWriter(self.shards[index], self.tiles.id.iloc[rows], forward.shapes,
                           dtype=self.settings.extract.dtype, attributes=self._attributes(forward))

    def _attributes(self, forward: Forward) -> dict[str, Any]:
        return {
            "settings": json.dumps(self.settings.as_json()), "recipe": json.dumps(self.recipe), "weights": forward.weights,
            "weights_are_random": forward.weights.startswith("random:"), "weights_sha256": forward.weights_sha256,
            "tiles_sha256": self.tiles.sha256, "precision": forward.precision, "device": forward.device,
            "created_with": forward.versions,
        }

    def finish(self) -> None:
        """Write the virtual file over the complete shards, unless it is there already."""
        if self.missing or not self.virtual.is_file():
            write_virtual(self.virtual, self.shards)


def _work(jobs: list[Job], settings: Settings, tiles: Tiles, *, strict: bool, on_tiles: Progress | None) -> dict[str, Any]:
    """Do every missing shard, decoding each picture once for all backbones that lack it."""
    from extract.forward import open_forward  # Keras takes seconds to load, and a finished run does not need it

    began = time.perf_counter()
    probe = Reader(settings, tiles).read(range(min(len(tiles), settings.extract.batch)), Clock()).pictures
    forwards = {job.backbone: open_forward(job.settings, job.backbone, probe, allow_random=job.allow_random,
                                           precision=job.precision) for job in jobs}
    for job in jobs:
        loaded = forwards[job.backbone].weights_sha256
        if job.weights_sha256 not in (None, loaded):
            raise ExtractError(f"{job.folder}: made with other weights (SHA-256 {job.weights_sha256}, now {loaded}). "
                               "Restore the weight file, or start anew with --fresh (FRESH=1 for make).")
    startup = time.perf_counter() - began
    clocks = {job.backbone: Clock() for job in jobs}
    shared, n_done = Clock(), 0
    n_todo = sum(job.slices[i].stop - job.slices[i].start for job in jobs for i in job.missing)
    start = time.perf_counter()
    for index, rows in enumerate(jobs[0].slices):
        todo = [job for job in jobs if index in job.missing]
        with _writers(todo, index, forwards) as writers:
            for batch in _batches(tiles, settings, rows, shared) if todo else ():
                _check_strict(batch, strict=strict)
                for job in todo:
                    n_done += len(batch.reasons)
                    _step(batch, forwards[job.backbone], writers[job.backbone], clocks[job.backbone])
                if on_tiles:
                    on_tiles(n_done, n_todo)
    total = time.perf_counter() - start
    return {job.backbone: _stage(job, forwards[job.backbone], clocks[job.backbone], shared, total, startup) for job in jobs}


def _step(batch: Batch, forward: Forward, writer: ShardWriter, clock: Clock) -> None:
    with clock.time("forward"):
        rows = forward(batch.pictures)
    with clock.time("write"):
        writer.append(rows, batch.reasons)


@contextmanager
def _writers(jobs: list[Job], index: int, forwards: dict[str, Forward]) -> Iterator[dict[str, ShardWriter]]:
    """Open one shard a backbone; complete all at the end, or leave none half done."""
    writers = {}
    try:
        for job in jobs:
            writers[job.backbone] = job.open_shard(index, forwards[job.backbone])
        yield writers
        for writer in writers.values():
            writer.close()
    except OSError as error:
        _discard(writers)
        raise ExtractError(f"writing failed: {error}. The complete shards are kept; "
                           "make room, then run the same command again.") from error
    except BaseException:
        _discard(writers)
        raise


def _discard(writers: dict[str, ShardWriter]) -> None:
    for writer in writers.values():
        writer.discard()


def _check_strict(batch: Batch, *, strict: bool) -> None:
    bad = [reason for reason in batch.reasons if reason]
    if strict and bad:
        raise ExtractError(f"strict: {len(bad)} tiles cannot be used (first: {bad[0]}). Mend them, or run without --strict.")


def _batches(tiles: Tiles, settings: Settings, rows: slice, clock: Clock) -> Iterator[Batch]:
    """Decode ahead of the network in threads (OpenCV leaves the interpreter free), a bounded number of batches."""
    size = settings.extract.batch
    ranges = deque(range(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size))
    reader = Reader(settings, tiles)
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1), "decode")
    try:
        ahead: deque[Future[Batch]] = deque()
        while ranges or ahead:
            while ranges and len(ahead) < _BATCHES_AHEAD:
                ahead.append(pool.submit(reader.read, ranges.popleft(), clock))
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _stage(job: Job, forward: Forward, clock: Clock, shared: Clock, total: float, startup: float) -> dict[str, Any]:
    n_tiles = sum(job.slices[i].stop - job.slices[i].start for i in job.missing)
    seconds = {**shared.seconds, "forward": clock.seconds["forward"], "write": clock.seconds["write"], "total": total}
    return {
        "tiles": n_tiles, "tiles_per_second": n_tiles / total, "seconds": {k: round(v, 3) for k, v in seconds.items()},
        "device": forward.device, "precision": forward.precision, "startup_seconds": round(startup, 3),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _write_lists(job: Job, settings: Settings, tiles: Tiles) -> int:
    """Write rejects.csv, and unlisted.csv for the pictures that the table does not name; count the rejects."""
    features = job.folder.parent
    rejects = read_rejects(job.shards)
    rows = list(rejects)
    table = pd.DataFrame({"id": tiles.id.iloc[rows], "path": tiles.path.iloc[rows], "reason": list(rejects.values())})
    _write_csv(table, features / "rejects.csv")
    listed = set(tiles.path)
    suffixes = {PurePosixPath(path).suffix for path in listed}
    files = (name for name in open_images(settings.tiles).names() if PurePosixPath(name).suffix in suffixes)
    _write_csv(pd.DataFrame({"path": sorted(name for name in files if name not in listed)}), features / "unlisted.csv")
    return len(rejects)


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    table.to_csv(partial, index=False)
    publish(partial, path)


def _write_stages(features: Path, stages: dict[str, Any], backbones: list[str]) -> None:
    """Add this run's stages to those of earlier runs; a run that did nothing changes nothing."""
    path = features / "stages.json"
    old = json.loads(path.read_text()) if path.is_file() else {}
    merged = {k: v for k, v in {**old, **stages}.items() if k in backbones}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(merged, indent=2) + "\n")
    publish(partial, path)


@contextmanager
def _locked(features: Path) -> Iterator[None]:
    """Hold the folder; the lock goes with the process, so that a killed run leaves none behind."""
    with (features / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise ExtractError(f"{features}: in use by process {handle.read().strip()}. Wait for it, or stop it.") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
