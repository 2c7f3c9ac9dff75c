"""Split shards into batches, and decode them ahead of the networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from extract.config.arrays import Ints
from extract.errors import DecoderError, ExtractionError
from extract.loop.pipeline import DECODED_AHEAD, Pipeline
from extract.pictures.decode import PICTURE
from extract.pictures.decoder_pool import Decoding
from extract.pictures.picture_source import Batch
from extract.store.backbone_shards import BackboneShards
from extract.store.kept_rows import Match, Stamps
from extract.timing.stages import WorkerRecord


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


def decode_ahead(
    pipeline: Pipeline, indices: Iterable[int], record: WorkerRecord
) -> Generator[tuple[PlannedBatch, Batch], None, None]:
    """Decode ahead of the network, a bounded number of batches."""
    pipeline.decoders.reset()
    n_ahead = len(pipeline.decoders) + DECODED_AHEAD
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
