"""The loop: pictures decoded ahead, several batches on the device, shards written behind; every stage timed."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extract.embeddings import ShardWriter
from extract.jobs import ExtractError, Job, Opened
from extract.reader import Batch, Clock, Reader
from extract.settings import Settings
from extract.stages import Record, Watch
from extract.tiles import Tiles

_IN_FLIGHT = 3  # batches on the device: one computes, one is copied in, one is copied out
_WRITES_AHEAD = 4  # batches that wait for the disk


class Pending(Protocol):
    """A batch that the device may still be busy with."""

    def result(self) -> dict[str, NDArray[Any]]: ...  # noqa: D102


class Network(Opened, Protocol):
    """What the loop asks of a network: see `extract.networks.forward.Forward`."""

    def submit(self, pictures: NDArray[np.uint8]) -> Pending: ...  # noqa: D102


OpenForward = Callable[..., Network]
OnTiles = Callable[[int, int], None]


@dataclass(slots=True, kw_only=True)
class Bench:
    """What a worker keeps open: the table, each backbone's job and network, and how many threads decode."""

    settings: Settings
    tiles: Tiles
    jobs: dict[str, Job]
    networks: dict[str, Network]
    threads: int
    strict: bool
    startup_seconds: float


@dataclass(slots=True)
class Step:
    """One batch and one network: rows of one shard."""

    job: Job
    index: int
    network: Network
    batch: Batch
    pending: Pending


def open_bench(settings: Settings, tiles: Tiles, jobs: Sequence[Job], open_forward: OpenForward, *,
               allow_random: bool = False, strict: bool = False, share: int = 1) -> Bench:
    """Load and compile the networks; all on the same probe, so that all workers choose the same precision.

    Parameters
    ----------
    open_forward : `extract.networks.forward.open_forward`, or what stands in for it.
    share : workers that share this machine's cores.

    Raises
    ------
    ExtractError : the shards that are there were made with other weights.
    BackboneError : a network that cannot be opened.
    """
    began = time.perf_counter()
    probe = Reader(settings, tiles).read(range(min(len(tiles), settings.extract.batch)), Clock()).pictures
    networks: dict[str, Network] = {}
    for job in jobs:
        networks[job.backbone] = open_forward(settings, job.backbone, probe, allow_random=allow_random, **job.made_in())
        job.check_network(networks[job.backbone])
    cores = len(os.sched_getaffinity(0))
    return Bench(settings=settings, tiles=tiles, jobs={job.backbone: job for job in jobs}, networks=networks,
                 threads=max(1, min(32, cores // share)), strict=strict, startup_seconds=time.perf_counter() - began)


def make_shards(bench: Bench, indices: Iterable[int], on_tiles: OnTiles | None = None) -> Record:
    """Make these shards of every backbone that lacks them, decoding each picture once for all.

    Batches never cross the border of a shard, so that a shard does not depend on what was done before it; the stages
    go on across it without a pause.

    Parameters
    ----------
    indices : numbers of the shards. on_tiles : called with (tiles done, tiles rejected) of each batch.

    Returns
    -------
    What was done and how long it took, see `extract.stages`.

    Raises
    ------
    ExtractError : the disk is full, or with `strict` a tile that cannot be used. Complete shards are kept.
    """
    watch = Watch(bench.threads)
    flight: deque[Step] = deque()
    with closing(Writing(watch)) as writing, closing(_decode(bench, indices, watch)) as batches:
        for jobs, index, batch in batches:
            _check_strict(batch, strict=bench.strict)
            for job in jobs:
                network = bench.networks[job.backbone]
                with watch.clocks[job.backbone].time("forward"):
                    flight.append(Step(job, index, network, batch, network.submit(batch.pictures)))
                while len(flight) > _IN_FLIGHT:
                    _land(flight.popleft(), writing, watch)
            n_bad = sum(map(bool, batch.reasons))
            watch.n_rejected += n_bad
            if on_tiles:
                on_tiles(len(batch.reasons), n_bad)
        while flight:
            _land(flight.popleft(), writing, watch)
        writing.finish()
    return watch.record(bench.networks, startup=bench.startup_seconds)


def _land(step: Step, writing: Writing, watch: Watch) -> None:
    with watch.clocks[step.job.backbone].time("forward"):
        rows = step.pending.result()
    watch.tiles[step.job.backbone] += len(step.batch.reasons)
    with watch.wait("write"):
        writing.put(step, rows)


def _check_strict(batch: Batch, *, strict: bool) -> None:
    bad = [reason for reason in batch.reasons if reason]
    if strict and bad:
        raise ExtractError(f"strict: {len(bad)} tiles cannot be used (first: {bad[0]}). Mend them, or run without --strict.")


def _decode(bench: Bench, indices: Iterable[int], watch: Watch) -> Generator[tuple[list[Job], int, Batch], None, None]:
    """Decode ahead of the network in threads (OpenCV leaves the interpreter free), a bounded number of batches."""
    reader = Reader(bench.settings, bench.tiles)
    pool = ThreadPoolExecutor(bench.threads, "decode")
    ahead: deque[tuple[list[Job], int, Future[tuple[Batch, Clock]]]] = deque()

    def fetch() -> tuple[list[Job], int, Batch]:
        jobs, index, future = ahead.popleft()
        with watch.wait("decode"):
            batch, clock = future.result()
        watch.add_reading(clock, (job.backbone for job in jobs))
        return jobs, index, batch

    try:
        for jobs, index, rows in _batches(bench, indices):
            ahead.append((jobs, index, pool.submit(_read, reader, rows)))
            if len(ahead) > bench.threads + 1:
                yield fetch()
        while ahead:
            yield fetch()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(reader: Reader, rows: range) -> tuple[Batch, Clock]:
    clock = Clock()
    return reader.read(rows, clock), clock


def _batches(bench: Bench, indices: Iterable[int]) -> Iterator[tuple[list[Job], int, range]]:
    """Cut the shards into batches; a shard that is complete, by whomever, is not done again."""
    size = bench.settings.extract.batch
    for index in indices:
        jobs = [job for job in bench.jobs.values() if not job.shards[index].is_file()]
        rows = next(iter(bench.jobs.values())).slices[index]
        for start in range(rows.start, rows.stop, size) if jobs else ():
            yield jobs, index, range(start, min(start + size, rows.stop))


class Writing:
    """One thread that writes behind the network; its errors surface at the next `put`."""

    def __init__(self, watch: Watch) -> None:
        self._pool, self._watch = ThreadPoolExecutor(1, "write"), watch
        self._waiting: deque[Future[None]] = deque()
        self._open: dict[Path, ShardWriter] = {}
        self._is_broken = False

    def put(self, step: Step, rows: dict[str, NDArray[Any]]) -> None:
        """Hand over the rows of one batch; waits while too many are waiting."""
        self._settle(_WRITES_AHEAD)
        self._waiting.append(self._pool.submit(self._write, step, rows))

    def finish(self) -> None:
        """Wait until everything is on disk."""
        with self._watch.wait("write"):
            self._settle(0)

    def _settle(self, n_ahead: int) -> None:
        while self._waiting and (len(self._waiting) > n_ahead or self._waiting[0].done()):
            try:
                self._waiting.popleft().result()
            except OSError as error:
                raise ExtractError(f"writing failed: {error}. The complete shards are kept; "
                                   "make room, then run the same command again.") from error

    def _write(self, step: Step, rows: dict[str, NDArray[Any]]) -> None:
        if self._is_broken:  # rows are missing: what follows has no place
            return
        path = step.job.shards[step.index]
        try:
            with self._watch.clocks[step.job.backbone].time("write"):
                if path not in self._open:
                    self._open[path] = step.job.open_shard(step.index, step.network)
                self._open[path].append(rows, step.batch.reasons, step.batch.facts)
                if self._open[path].is_full:
                    self._open[path].close()
                    del self._open[path]
        except BaseException:
            self._is_broken = True
            raise

    def close(self) -> None:
        """Stop, and leave nothing half done."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for writer in self._open.values():
            writer.discard()
