"""The loop: pictures decoded ahead, several batches on the device, shards written behind; every stage timed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from extract.errors import DecoderError, ExtractionError
from extract.pictures.decoder_pool import DecoderPool, Decoding
from extract.pictures.picture_source import Batch
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards, NetworkInfo
from extract.store.shards import ShardWriter
from extract.tables.tile_reader import Reader
from extract.tables.tile_table import Tiles
from extract.timing.clock import Clock
from extract.timing.stages import Record, Watch

_MOST_PROCESSES = 32  # that decode
_DECODED_AHEAD = 2  # batches that wait for the device, beside those that each process is busy with
_IN_FLIGHT = 3  # batches on the device: one computes, one is copied in, one is copied out
_WRITES_AHEAD = 4  # batches that wait for the disk


class Pending(Protocol):
    """A batch that the device may still be busy with."""

    def result(self) -> dict[str, NDArray[Any]]: ...  # noqa: D102


class Network(NetworkInfo, Protocol):
    """What the loop asks of a network: see `extract.networks.forward.Forward`."""

    def submit(self, pictures: NDArray[np.uint8]) -> Pending: ...  # noqa: D102


OpenForward = Callable[..., Network]
OnTiles = Callable[[int, int], None]


@dataclass(slots=True, kw_only=True)
class Bench:
    """What a worker keeps open: the pictures, each backbone's job and network, and the processes that decode."""

    settings: ExtractSettings
    reader: Reader
    jobs: dict[str, BackboneShards]
    networks: dict[str, Network]
    decoders: DecoderPool
    strict: bool
    startup_seconds: float

    def close(self) -> None:
        """End the processes that decode."""
        self.decoders.close()


@dataclass(slots=True)
class Step:
    """One batch and one network: rows of one shard; the last network of a batch gives its pictures' memory back."""

    job: BackboneShards
    index: int
    network: Network
    batch: Batch
    pending: Pending
    decoding: Decoding | None


def open_bench(
    settings: ExtractSettings,
    tiles: Tiles,
    jobs: Sequence[BackboneShards],
    open_forward: OpenForward,
    *,
    allow_random: bool = False,
    strict: bool = False,
    share: int = 1,
) -> Bench:
    """Load and compile the networks; all on the same probe, so that all workers choose the same precision.

    Parameters
    ----------
    open_forward : `extract.networks.forward.open_forward`, or what stands in for it.
    share : workers that share this machine's cores.

    Raises
    ------
    ExtractionError : the shards that are there were made with other weights; pictures cannot be decoded beside the network.
    NetworkError : a network that cannot be opened.
    """
    began = time.perf_counter()
    reader = Reader(settings, tiles)
    batch = settings.extract.batch
    processes = max(1, min(_MOST_PROCESSES, cpu_count() // share))
    networks: dict[str, Network] = {}
    n_batches = processes + _DECODED_AHEAD + _IN_FLIGHT + 1
    try:
        decoders = DecoderPool(
            reader.source, processes=processes, batch=batch, n_batches=n_batches
        )  # start while networks compile
        with ExitStack() as opened:
            opened.callback(decoders.close)
            probe = reader.read(range(min(len(tiles), batch)), Clock()).pictures
            for job in jobs:
                networks[job.backbone] = open_forward(
                    settings, job.backbone, probe, allow_random=allow_random, **job.made_in()
                )
                job.check_network(networks[job.backbone])
            decoders.wait_until_ready()
            opened.pop_all()
    except DecoderError as error:
        raise ExtractionError(f"{error}. Complete shards are kept.") from error
    return Bench(
        settings=settings,
        reader=reader,
        jobs={job.backbone: job for job in jobs},
        networks=networks,
        decoders=decoders,
        strict=strict,
        startup_seconds=time.perf_counter() - began,
    )


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
    ExtractionError : the disk is full, or with `strict` a tile that cannot be used. Complete shards are kept.
    """
    watch = Watch(len(bench.decoders))
    flight: deque[Step] = deque()
    with closing(Writing(watch)) as writing, closing(_decode(bench, indices, watch)) as batches:
        for jobs, index, batch, decoding in batches:
            _check_strict(batch, strict=bench.strict)
            for job in jobs:
                network = bench.networks[job.backbone]
                with watch.clocks[job.backbone].time("forward"):
                    pending = network.submit(batch.pictures)
                flight.append(
                    Step(job, index, network, batch, pending, decoding if job is jobs[-1] else None)
                )
                while len(flight) > _IN_FLIGHT:
                    _land(bench, flight.popleft(), writing, watch)
            n_bad = sum(map(bool, batch.reasons))
            watch.n_rejected += n_bad
            if on_tiles:
                on_tiles(len(batch.reasons), n_bad)
        while flight:
            _land(bench, flight.popleft(), writing, watch)
        writing.finish()
    return watch.record(
        bench.networks, startup=bench.startup_seconds, beside=bench.decoders.count_bytes()
    )


def _land(bench: Bench, step: Step, writing: Writing, watch: Watch) -> None:
    with watch.clocks[step.job.backbone].time("forward"):
        rows = step.pending.result()
    if step.decoding:
        bench.decoders.release(step.decoding)
    watch.tiles[step.job.backbone] += len(step.batch.reasons)
    with watch.waited.time("write"):
        writing.put(step, rows)


def _check_strict(batch: Batch, *, strict: bool) -> None:
    bad = [reason for reason in batch.reasons if reason]
    if strict and bad:
        raise ExtractionError(
            f"strict: {len(bad)} tiles cannot be used (first: {bad[0]}). Mend them, or run without --strict."
        )


def _decode(
    bench: Bench, indices: Iterable[int], watch: Watch
) -> Generator[tuple[list[BackboneShards], int, Batch, Decoding], None, None]:
    """Decode ahead of the network, a bounded number of batches."""
    bench.decoders.reset()
    ahead: deque[tuple[list[BackboneShards], int, range, Decoding]] = deque()

    def fetch() -> tuple[list[BackboneShards], int, Batch, Decoding]:
        jobs, index, rows, decoding = ahead.popleft()
        try:
            with watch.waited.time("decode"):
                batch, clock = decoding.done.result()
        except DecoderError as error:
            where = (
                f", at one of the pictures of rows {rows.start + 1} to {rows.stop} of the table"
                if error.is_at_work
                else ""
            )
            advice = (
                "; if it ends there again, one of these pictures does it: take its row out of the table"
                if error.is_at_work
                else "; where memory is short, lower [extract] batch"
            )
            raise ExtractionError(
                f"{error}{where}. Complete shards are kept. Run the same command again{advice}."
            ) from None
        watch.add_reading(clock, (job.backbone for job in jobs))
        return jobs, index, batch, decoding

    for jobs, index, rows in _batches(bench, indices):
        ahead.append((jobs, index, rows, bench.decoders.submit(bench.reader.find(rows))))
        if len(ahead) >= len(bench.decoders) + _DECODED_AHEAD:
            yield fetch()
    while ahead:
        yield fetch()


def _batches(
    bench: Bench, indices: Iterable[int]
) -> Iterator[tuple[list[BackboneShards], int, range]]:
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
        self._pool = ThreadPoolExecutor(1, "write")
        self._watch = watch
        self._waiting: deque[Future[None]] = deque()
        self._open: dict[Path, ShardWriter] = {}
        self._is_broken = False

    def put(self, step: Step, rows: dict[str, NDArray[Any]]) -> None:
        """Hand over the rows of one batch; waits while too many are waiting."""
        self._settle(_WRITES_AHEAD)
        self._waiting.append(self._pool.submit(self._write, step, rows))

    def finish(self) -> None:
        """Wait until everything is on disk."""
        with self._watch.waited.time("write"):
            self._settle(0)

    def _settle(self, n_ahead: int) -> None:
        while self._waiting and (len(self._waiting) > n_ahead or self._waiting[0].done()):
            try:
                self._waiting.popleft().result()
            except OSError as error:
                raise ExtractionError(
                    f"writing failed: {error}. The complete shards are kept; "
                    "make room, then run the same command again."
                ) from error

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
