"""The loop itself: each batch goes through every network that lacks it, and to disk."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing

from extract.config.arrays import Array
from extract.errors import ExtractionError
from extract.loop.batches import PlannedBatch, decode_ahead
from extract.loop.pipeline import IN_FLIGHT, Pipeline
from extract.loop.write_queue import BatchInFlight, WriteQueue
from extract.pictures.picture_source import Batch
from extract.store.backbone_shards import BackboneShards
from extract.store.mixed_batch import MixedBatch, mix_batch
from extract.timing.clock import peak_rss_bytes
from extract.timing.device_meter import DeviceMeter
from extract.timing.stages import BackboneRecord, WorkerRecord

OnTiles = Callable[[int, int], None]  # tiles done, tiles rejected, of one batch


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
        closing(decode_ahead(pipeline, indices, record)) as batches,
    ):
        for planned, batch in batches:
            mixed = _mix(planned, batch)
            n_rejected = _count_rejected(mixed[0], strict=pipeline.strict)
            for backbone, part in zip(planned.backbones, mixed, strict=True):
                in_flight.append(_submit(pipeline, planned, part, backbone, record, meter))
                while len(in_flight) > IN_FLIGHT:
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
    rows = step.batch.merge(computed, list(shapes))
    with record.waited.time("write"):
        queue.put(step, rows)
