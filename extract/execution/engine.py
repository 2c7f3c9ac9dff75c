"""Make the missing shards: in this process, in several of this machine, or on a Dask cluster."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

from joblib import delayed

from extract.errors import ExtractionError
from extract.execution.workers import Cluster, Processes, list_gpus, open_cluster, show_only_gpu
from extract.files.locks import DeviceClaim, claim_device
from extract.loop.make_shards import OnTiles, make_shards
from extract.loop.pipeline import OpenForward, Pipeline, choose_forward, open_pipeline
from extract.settings import ExtractSection, ExtractSettings
from extract.store.backbone_shards import MADE_WITH, BackboneShards
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.stages import WorkerRecord

MadeWith = dict[str, dict[str, str]]  # backbone → precision, runtime and weights of its shards
_RANGES_A_WORKER = 8
_SHARDS_A_RANGE = 16


class Order(NamedTuple):
    """What workers make.

    Attributes
    ----------
    gpus : GPUs of this machine, one a worker; none where the cluster's workers choose.
    retry : make rows again that were rejected.
    share : workers that share a machine's cores.
    run : identity of the run; no worker goes on with what it opened for another, because
        pictures may have changed.
    """

    settings: ExtractSettings
    backbones: list[str]
    tiles_sha256: str
    allow_random: bool
    strict: bool
    retry: bool
    open_forward: OpenForward | None
    gpus: list[str]
    share: int
    run: str


@dataclass(slots=True)
class WorkerState:
    """What a worker process keeps from one range of shards to the next."""

    run: str = ""
    pipeline: Pipeline | None = None
    gpu: DeviceClaim | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self, run: str) -> None:
        """Close what is open for a run; another run may have come since."""
        if self.pipeline is not None and self.run == run:
            self.pipeline.close()
            self.pipeline = None


_STATE = WorkerState()  # the one of this process, used where it is a worker


def make_missing(
    settings: ExtractSettings,
    tiles: Tiles,
    backbones: list[BackboneShards],
    *,
    allow_random: bool,
    strict: bool,
    on_tiles: OnTiles,
    open_forward: OpenForward | None,
) -> list[WorkerRecord]:
    """Make every missing shard of these backbones by the engine that the settings ask for.

    Returns
    -------
    What each worker did, for each range of shards.

    Raises
    ------
    ExtractionError, WorkerError : a full disk, a worker died, no cluster; complete shards are kept.
    """
    extract = settings.extract
    missing = sorted({index for backbone in backbones for index in backbone.missing})
    gpus = [] if extract.engine == "dask" else list_gpus()
    n_workers = count_workers(extract, gpus)
    order = Order(
        settings=settings.model_copy(update={"out": settings.folder}),
        backbones=[backbone.backbone for backbone in backbones],
        tiles_sha256=backbones[0].tiles_sha256,
        allow_random=allow_random,
        strict=strict,
        retry=backbones[0].retry,
        open_forward=open_forward,
        gpus=gpus,
        share=n_workers,
        run=uuid4().hex,
    )
    is_quick = not any(backbone.needs_network for backbone in backbones)
    if is_quick or (extract.engine == "local" and n_workers == 1):
        with closing(_open_pipeline(order, tiles, backbones)) as pipeline:
            return [make_shards(pipeline, missing, on_tiles)]
    made_with = {backbone.backbone: backbone.made for backbone in backbones}
    records = []
    with _open_workers(order) as workers:
        order = order._replace(share=workers.workers_per_host)
        [made_with] = workers.run([delayed(open_worker)(order, made_with)])
        ranges = split_ranges(missing, workers.n_workers)
        for record in workers.run(delayed(make_range)(order, made_with, r) for r in ranges):
            on_tiles(record.n_tiles, record.n_rejected)
            records.append(record)
    return [record for record in records if record.backbones]


def count_workers(extract: ExtractSection, gpus: list[str]) -> int:
    """Count the workers to start: as many as the settings ask for, else one a GPU, else one."""
    if gpus and (extract.workers or 1) > len(gpus):
        raise ExtractionError(
            f"[extract] workers = {extract.workers}: this machine has {len(gpus)} GPUs, and each "
            "takes one worker. Lower workers, or leave it out."
        )
    return extract.workers or len(gpus) or 1


def split_ranges(missing: list[int], n_workers: int) -> list[list[int]]:
    """Split missing shards into ranges: long enough to keep a device busy, short enough to share.

    Returns
    -------
    Ranges of at most 16 shards, each shard in one of them.
    """
    size = len(missing) // (n_workers * _RANGES_A_WORKER)
    size = max(1, min(_SHARDS_A_RANGE, size))
    return [missing[i : i + size] for i in range(0, len(missing), size)]


@contextmanager
def _open_workers(order: Order) -> Iterator[Processes | Cluster]:
    """Open the workers; whoever presses Ctrl-C waits for no range of shards."""
    extract = order.settings.extract
    if extract.engine == "local":
        processes = Processes(order.share, remedy="[extract] workers or batch")
        try:
            yield processes
        finally:
            processes.stop()
        return
    with open_cluster("extract", extract.scheduler, order.share) as cluster:
        try:
            yield cluster
        finally:
            if not isinstance(sys.exception(), KeyboardInterrupt):
                with suppress(OSError):  # a worker may be gone
                    cluster.call_everywhere(close_worker, order.run)


def open_worker(order: Order, made_with: MadeWith) -> MadeWith:
    """Open the networks in a worker, and return what they compute with."""
    with _STATE.lock:
        networks = _open_in_worker(order, made_with).networks
    return {
        name: {key: getattr(network, key) for key in MADE_WITH}
        for name, network in networks.items()
    }


def make_range(order: Order, made_with: MadeWith, indices: list[int]) -> WorkerRecord:
    """Make a range of shards in a worker, which opens the networks once and keeps them.

    Parameters
    ----------
    made_with : what the first worker, or an earlier run, made shards with; all must agree.
    """
    with _STATE.lock:
        return make_shards(_open_in_worker(order, made_with), indices)


def close_worker(run: str) -> None:
    """Close what this worker keeps open for a run."""
    _STATE.close(run)


def _open_in_worker(order: Order, made_with: MadeWith) -> Pipeline:
    if _STATE.pipeline is None or _STATE.run != order.run:
        _STATE.close(_STATE.run)
        if order.gpus and _STATE.gpu is None:
            _STATE.gpu = claim_device(order.settings.folder / "features", order.gpus)
            show_only_gpu(_STATE.gpu.device)
        tiles = read_tiles(order.settings)
        _check_table(order, tiles)
        backbones = [
            BackboneShards(
                order.settings,
                tiles,
                name,
                tiles_sha256=order.tiles_sha256,
                retry=order.retry,
            )
            for name in order.backbones
        ]
        for backbone in backbones:
            backbone.made = made_with[backbone.backbone]
        _STATE.pipeline = _open_pipeline(order, tiles, backbones)
        _STATE.run = order.run
    for name, backbone in _STATE.pipeline.backbones.items():
        backbone.made = made_with[name]
        backbone.check_network(_STATE.pipeline.networks[name])
    return _STATE.pipeline


def _check_table(order: Order, tiles: Tiles) -> None:
    if tiles.sha256 != order.tiles_sha256:
        raise ExtractionError(
            f"table {order.settings.tiles.table}: differs from the one that the run was started "
            "with. All workers have to see the same files."
        )


def _open_pipeline(order: Order, tiles: Tiles, backbones: list[BackboneShards]) -> Pipeline:
    return open_pipeline(
        order.settings,
        tiles,
        backbones,
        choose_forward(order.open_forward),
        allow_random=order.allow_random,
        strict=order.strict,
        share=order.share,
    )
