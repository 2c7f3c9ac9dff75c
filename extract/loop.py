"""The loop of an extraction: pictures decoded ahead, batches in flight, shards written behind."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from joblib import cpu_count

from extract.config.arrays import Array, Ints, Pixels
from extract.errors import DecoderError, ExtractionError
from extract.pictures.decode import PICTURE
from extract.pictures.decoder_pool import DecoderPool, Decoding
from extract.pictures.picture_source import Batch
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.kept_rows import Match, Stamps
from extract.store.mixed_batch import MixedBatch, mix_batch
from extract.store.network_info import NetworkInfo, StatedNetwork
from extract.store.shards import ShardWriter
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import Tiles
from extract.timing.clock import Clock, peak_rss_bytes
from extract.timing.device_meter import DeviceMeter
from extract.timing.stages import BackboneRecord, WorkerRecord

_MOST_DECODERS = 32  # processes
_DECODED_AHEAD = 2  # batches that wait for the device, beside those that each process is busy with
_IN_FLIGHT = 3  # batches on the device: one computes, one is copied in, one is copied out
_WRITES_AHEAD = 4  # batches that wait for the disk


class PendingBatch(Protocol):
    """A batch that the device may still be busy with."""

    def result(self) -> dict[str, Array]: ...  # noqa: D102


class ForwardNetwork(NetworkInfo, Protocol):
    """A network that takes batches: see `extract.networks.forward.Forward`."""

    def submit(self, pictures: Pixels) -> PendingBatch: ...  # noqa: D102


OpenForward = Callable[..., ForwardNetwork]


def choose_forward(open_forward: OpenForward | None) -> OpenForward:
    """Return what opens networks: what is given, or that of this package.

    Keras takes seconds to load, and a finished run does not need it.
    """
    if open_forward is not None:
        return open_forward
    from extract.networks.forward import open_forward as open_frozen

    return open_frozen


OnTiles = Callable[[int, int], None]  # tiles done, tiles rejected, of one batch


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """What a worker keeps open: the pictures, each backbone's network and shards, and decoders."""

    settings: ExtractSettings
    reader: TileReader
    backbones: dict[str, BackboneShards]
    networks: dict[str, ForwardNetwork]
    decoders: DecoderPool
    strict: bool
    startup_seconds: float

    def close(self) -> None:
        """End the processes that decode."""
        self.decoders.close()


class PlannedBatch(NamedTuple):
    """Rows of one shard, being decoded for the backbones that lack it.

    Attributes
    ----------
    matches : of each backbone, the rows that are kept from earlier shards; None without such.
    stamps : (n_rows,), of their pictures.
    places : (n_decoded,), of the rows that are decoded.
    decoding : None where all are kept.
    """

    backbones: list[BackboneShards]
    shard: int
    rows: range
    matches: list[Match | None]
    stamps: Stamps
    places: Ints
    decoding: Decoding | None


@dataclass(slots=True, kw_only=True)
class BatchInFlight:
    """One batch in one network; the last network of a batch gives its pictures' memory back."""

    backbone: BackboneShards
    index: int
    batch: MixedBatch
    computed: Future[dict[str, Array]] | None
    decoding: Decoding | None


def open_pipeline(
    settings: ExtractSettings,
    tiles: Tiles,
    backbones: Sequence[BackboneShards],
    open_forward: OpenForward,
    *,
    allow_random: bool = False,
    strict: bool = False,
    share: int = 1,
) -> Pipeline:
    """Start the decoders, and load and compile the networks.

    All workers probe the networks on the same pictures, so that all choose the same precision.

    Parameters
    ----------
    open_forward : `extract.networks.forward.open_forward`, or what stands in for it.
    share : workers that share this machine's cores.

    Raises
    ------
    ExtractionError : complete shards were made with other weights; the decoders cannot start.
    NetworkError : a network cannot be opened.
    """
    began = time.perf_counter()
    reader = TileReader(settings, tiles)
    batch = settings.extract.batch
    n_processes = max(1, min(_MOST_DECODERS, cpu_count() // share))
    n_batches = n_processes + _DECODED_AHEAD + _IN_FLIGHT + 1
    networks: dict[str, ForwardNetwork] = {}
    try:
        decoders = DecoderPool(
            reader.source, processes=n_processes, batch=batch, n_batches=n_batches
        )  # they start while networks compile
        with ExitStack() as opened:
            opened.callback(decoders.close)
            rows = range(min(len(tiles), batch))
            probe = reader.read(rows, Clock()).pictures
            for backbone in backbones:
                if not backbone.needs_network:
                    networks[backbone.backbone] = StatedNetwork(backbone.earlier[-1])
                    continue
                network = open_forward(
                    settings,
                    backbone.backbone,
                    probe,
                    allow_random=allow_random,
                    **backbone.made_in(),
                )
                backbone.check_network(network)
                networks[backbone.backbone] = network
            decoders.wait_until_ready()
            opened.pop_all()
    except DecoderError as error:
        raise ExtractionError(f"{error}. Complete shards are kept.") from error
    return Pipeline(
        settings=settings,
        reader=reader,
        backbones={backbone.backbone: backbone for backbone in backbones},
        networks=networks,
        decoders=decoders,
        strict=strict,
        startup_seconds=time.perf_counter() - began,
    )


def make_shards(
    pipeline: Pipeline, indices: Iterable[int], on_tiles: OnTiles | None = None
) -> WorkerRecord:
    """Make these shards of every backbone that lacks them, decoding each picture once for all.

    Batches never cross the border of a shard, so that a shard does not depend on what was done
    before it; the stages go on across it without a pause.

    Parameters
    ----------
    indices : numbers of the shards. `on_tiles` : called after each batch.

    Raises
    ------
    ExtractionError : a full disk, a dead decoder, or with `strict` a tile that cannot be used.
        Complete shards are kept.
    """
    began = time.perf_counter()
    record = _start_record(pipeline)
    in_flight: deque[BatchInFlight] = deque()
    with (
        closing(WriteQueue(pipeline, record)) as queue,
        closing(DeviceMeter()) as meter,
        closing(_decode_ahead(pipeline, indices, record)) as batches,
    ):
        for planned, batch in batches:
            mixed = _mix(planned, batch)
            n_rejected = _count_rejected(mixed[0], strict=pipeline.strict)
            for backbone, part in zip(planned.backbones, mixed, strict=True):
                in_flight.append(_submit(pipeline, planned, part, backbone, record, meter))
                while len(in_flight) > _IN_FLIGHT:
                    _finish(pipeline, in_flight.popleft(), queue, record)
            record.n_tiles += len(planned.rows)
            record.n_rejected += n_rejected
            if on_tiles:
                on_tiles(len(planned.rows), n_rejected)
        while in_flight:
            _finish(pipeline, in_flight.popleft(), queue, record)
        queue.finish()
    record.backbones = {
        name: part for name, part in record.backbones.items() if part.tiles or part.kept
    }
    record.peak_rss_bytes = peak_rss_bytes() + pipeline.decoders.count_bytes()
    record.seconds = time.perf_counter() - began
    return record


def _start_record(pipeline: Pipeline) -> WorkerRecord:
    parts = {
        name: BackboneRecord(
            device=network.device,
            precision=network.precision,
            runtime=network.runtime,
            note=network.note,
        )
        for name, network in pipeline.networks.items()
    }
    return WorkerRecord(
        worker=f"{socket.gethostname()}-{os.getpid()}",
        decoders=len(pipeline.decoders),
        startup_seconds=pipeline.startup_seconds,
        backbones=parts,
    )


def _mix(planned: PlannedBatch, batch: Batch) -> list[MixedBatch]:
    """Return the batch as each backbone has it."""
    return [
        mix_batch(batch, planned.places, match, backbone.kept, stamps=planned.stamps)
        for backbone, match in zip(planned.backbones, planned.matches, strict=True)
    ]


def _count_rejected(batch: MixedBatch, *, strict: bool) -> int:
    bad = [reason for reason in batch.reasons if reason]
    if strict and bad:
        raise ExtractionError(
            f"strict: {len(bad)} tiles cannot be used (first: {bad[0]}). "
            "Mend them, or run without --strict."
        )
    return len(bad)


def _submit(
    pipeline: Pipeline,
    planned: PlannedBatch,
    batch: MixedBatch,
    backbone: BackboneShards,
    record: WorkerRecord,
    meter: DeviceMeter,
) -> BatchInFlight:
    name = backbone.backbone
    computed = None
    if len(batch.new):
        sent = time.perf_counter()
        pending = pipeline.networks[name].submit(batch.pictures)
        clock = record.backbones[name].clock
        computed = meter.fetch(name, pending.result, clock, sent=sent)
    return BatchInFlight(
        backbone=backbone,
        index=planned.shard,
        batch=batch,
        computed=computed,
        decoding=planned.decoding if backbone is planned.backbones[-1] else None,
    )


def _finish(
    pipeline: Pipeline, step: BatchInFlight, queue: WriteQueue, record: WorkerRecord
) -> None:
    part = record.backbones[step.backbone.backbone]
    computed: dict[str, Array] = {}
    if step.computed:
        computed = step.computed.result()
    if step.decoding:
        pipeline.decoders.release(step.decoding)
    part.tiles += len(step.batch.new)
    part.kept += len(step.batch.kept)
    shapes = pipeline.networks[step.backbone.backbone].shapes
    rows = step.batch.merge(computed, pipeline.settings.extract.dtype, list(shapes))
    with record.waited.time("write"):
        queue.put(step, rows)


def _decode_ahead(
    pipeline: Pipeline, indices: Iterable[int], record: WorkerRecord
) -> Generator[tuple[PlannedBatch, Batch], None, None]:
    """Decode ahead of the network, a bounded number of batches."""
    pipeline.decoders.reset()
    n_ahead = len(pipeline.decoders) + _DECODED_AHEAD
    ahead: deque[PlannedBatch] = deque()
    for planned in _plan_batches(pipeline, indices):
        ahead.append(planned)
        if len(ahead) >= n_ahead:
            yield ahead[0], _wait_for(ahead.popleft(), record)
    while ahead:
        yield ahead[0], _wait_for(ahead.popleft(), record)


def _plan_batches(pipeline: Pipeline, indices: Iterable[int]) -> Iterator[PlannedBatch]:
    """Split the shards into batches; a shard that is complete, by whomever, is not done again."""
    size = pipeline.settings.extract.batch
    everything = list(pipeline.backbones.values())
    for index in indices:
        lacking = [backbone for backbone in everything if not backbone.shards[index].is_file()]
        if not lacking:
            continue
        shard = everything[0].slices[index]
        for start in range(shard.start, shard.stop, size):
            rows = range(start, min(start + size, shard.stop))
            yield _plan_batch(pipeline, lacking, index, rows)


def _plan_batch(
    pipeline: Pipeline, lacking: list[BackboneShards], index: int, rows: range
) -> PlannedBatch:
    """Have those rows decoded that a backbone has not from earlier shards."""
    stamps = lacking[0].stamp(rows)
    matches = [backbone.match(rows, stamps) for backbone in lacking]
    is_known = np.logical_and.reduce(
        [np.zeros(len(rows), np.bool_) if match is None else match.is_same for match in matches]
    )
    places = np.flatnonzero(~is_known)
    decoding = None
    if len(places):
        wanted = rows.start + places
        decoding = pipeline.decoders.submit(pipeline.reader.find(wanted.tolist()))
    return PlannedBatch(lacking, index, rows, matches, stamps, places, decoding)


def _wait_for(planned: PlannedBatch, record: WorkerRecord) -> Batch:
    if planned.decoding is None:
        return Batch(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, PICTURE), [])
    try:
        with record.waited.time("decode"):
            batch, clock = planned.decoding.done.result()
    except DecoderError as error:
        where = ""
        advice = "where memory is short, lower [extract] batch"
        if error.is_at_work:
            rows = planned.rows
            where = f", at one of the pictures of rows {rows.start + 1} to {rows.stop} of the table"
            advice = (
                "if it ends there again, one of these pictures does it: take its row out of the "
                "table"
            )
        raise ExtractionError(
            f"{error}{where}. Complete shards are kept. Run the same command again; {advice}."
        ) from None
    for backbone in planned.backbones:
        seconds = record.backbones[backbone.backbone].clock.seconds
        for stage in ("read", "decode"):
            seconds[stage] += clock.seconds[stage]
    return batch


class WriteQueue:
    """One thread that writes behind the network; its errors surface at the next `put`."""

    def __init__(self, pipeline: Pipeline, record: WorkerRecord) -> None:
        self._networks = pipeline.networks
        self._record = record
        self._thread = ThreadPoolExecutor(1, "write")
        self._waiting: deque[Future[None]] = deque()
        self._writers: dict[Path, ShardWriter] = {}
        self._is_broken = False

    def put(self, step: BatchInFlight, rows: Mapping[str, Array]) -> None:
        """Hand over the rows of one batch; waits while too many are waiting."""
        self._settle(_WRITES_AHEAD)
        self._waiting.append(self._thread.submit(self._write, step, rows))

    def finish(self) -> None:
        """Wait until everything is on disk."""
        with self._record.waited.time("write"):
            self._settle(0)

    def close(self) -> None:
        """Stop, and leave nothing half done."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        for writer in self._writers.values():
            writer.discard()

    def _settle(self, n_ahead: int) -> None:
        while self._waiting and (len(self._waiting) > n_ahead or self._waiting[0].done()):
            try:
                self._waiting.popleft().result()
            except OSError as error:
                raise ExtractionError(
                    f"writing failed: {error}. The complete shards are kept; "
                    "make room, then run the same command again."
                ) from error

    def _write(self, step: BatchInFlight, rows: Mapping[str, Array]) -> None:
        if self._is_broken:  # rows are missing: what follows has no place
            return
        name = step.backbone.backbone
        path = step.backbone.shards[step.index]
        try:
            with self._record.backbones[name].clock.time("write"):
                if path not in self._writers:
                    self._writers[path] = step.backbone.open_shard(step.index, self._networks[name])
                writer = self._writers[path]
                batch = step.batch
                writer.append(rows, batch.reasons, batch.facts, batch.stamps)
                if writer.is_full:
                    writer.close()
                    del self._writers[path]
        except BaseException:
            self._is_broken = True
            raise
