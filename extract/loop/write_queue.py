"""Write shards behind the networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from extract.config.arrays import Array
from extract.errors import ExtractionError
from extract.loop.pipeline import Pipeline
from extract.pictures.decoder_pool import Decoding
from extract.store.backbone_shards import BackboneShards
from extract.store.mixed_batch import MixedBatch
from extract.store.shards import ShardWriter
from extract.timing.stages import WorkerRecord

_WRITES_AHEAD = 4  # batches that wait for the disk


@dataclass(slots=True, kw_only=True)
class BatchInFlight:
    """One batch in one network; the last network of a batch gives its pictures' memory back."""

    backbone: BackboneShards
    index: int
    batch: MixedBatch
    computed: Future[dict[str, Array]] | None
    decoding: Decoding | None


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
