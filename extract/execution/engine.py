"""Who makes the shards: this process, several on this machine, or the workers of a Dask cluster; all by one function."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from uuid import uuid4

from extract.errors import ExtractionError
from extract.execution.workers import worker_processes
from extract.files.locks import claim_device
from extract.loop import Bench, OnTiles, OpenForward, make_shards, open_bench
from extract.settings import ExtractSection, ExtractSettings
from extract.store.backbone_shards import MADE_WITH, BackboneShards
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.stages import Record

Made = dict[
    str, dict[str, str]
]  # backbone → what its shards are made with, see `extract.store.backbone_shards.MADE_WITH`
_RANGES_A_WORKER = 8
_SHARDS_A_RANGE = 16
_benches: dict[str, Bench] = {}  # the one bench that this worker keeps open
_one_at_a_time = threading.Lock()


def make_missing(
    settings: ExtractSettings,
    tiles: Tiles,
    jobs: list[BackboneShards],
    *,
    allow_random: bool,
    strict: bool,
    on_tiles: OnTiles,
    open_forward: OpenForward | None,
) -> list[Record]:
    """Make every missing shard of these jobs by the engine that the settings ask for.

    Returns
    -------
    What each worker did, see `extract.stages`.

    Raises
    ------
    ExtractionError : a worker died, no cluster, a full disk; complete shards are kept.
    """
    extract = settings.extract
    missing = sorted({index for job in jobs for index in job.missing})
    devices = [] if extract.engine == "dask" else visible_gpus()
    workers = count_workers(extract, devices)
    if extract.engine == "local" and workers == 1:
        bench = open_bench(
            settings,
            tiles,
            jobs,
            open_forward or _find(_name(None)),
            allow_random=allow_random,
            strict=strict,
        )
        with closing(bench):
            return [make_shards(bench, missing, on_tiles)]
    order = {
        "settings": {**settings.as_json(), "out": str(settings.folder)},
        "backbones": [job.backbone for job in jobs],
        "allow_random": allow_random,
        "strict": strict,
        "tiles_sha256": jobs[0].tiles_sha256,
        "devices": devices,
        "share": workers,
        "open_forward": _name(open_forward),
        "run": uuid4().hex,
    }  # no worker goes on with what it opened for another run: pictures may have changed
    made = {job.backbone: job.made for job in jobs}
    records = []
    work = _by_dask if extract.engine == "dask" else _by_processes
    for record in work(order, made, missing, workers):
        n_tiles = sum(len(range(*jobs[0].slices[i].indices(len(tiles)))) for i in record["indices"])
        on_tiles(n_tiles, record["n_rejected"])
        records.append(record)
    return [record for record in records if record["backbones"]]


def count_workers(extract: ExtractSection, devices: list[str]) -> int:
    """Count the workers to start: as many as the settings say, else one a GPU, else one."""
    if devices and (extract.workers or 1) > len(devices):
        raise ExtractionError(
            f"[extract] workers = {extract.workers}: this machine has {len(devices)} GPUs, and each takes one "
            "worker. Lower workers, or leave it out."
        )
    return extract.workers or len(devices) or 1


def visible_gpus() -> list[str]:
    """Name the NVIDIA GPUs of this machine that this process may use, without loading any framework."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [
            name
            for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")
            if name.strip() not in ("", "-1")
        ]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [
        str(i)
        for i, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))
    ]


def work_range(order: str, made: Made, indices: list[int]) -> Record:
    """Make a range of shards in a worker; the worker opens the networks once and keeps them.

    Parameters
    ----------
    order : JSON of settings, backbones and options: what is to be made.
    made : what the first worker, or an earlier run, made shards with: all have to make them so.
    """
    with _one_at_a_time:
        record = make_shards(_open(order, made), indices)
    return record | {"indices": indices}


def open_worker(order: str, made: Made) -> Made:
    """Open the networks in a worker, and tell what they compute with."""
    with _one_at_a_time:
        networks = _open(order, made).networks
    return {
        name: {key: getattr(network, key) for key in MADE_WITH}
        for name, network in networks.items()
    }


def close_worker(order: str) -> None:
    """Close what the worker keeps open for a run; another run may have come since."""
    bench = _benches.pop(order, None)
    if bench:
        bench.close()


def _open(order: str, made: Made) -> Bench:
    if order not in _benches:
        for other in list(_benches):
            close_worker(other)
        _benches[order] = _build(json.loads(order), made)
    bench = _benches[order]
    for name, job in bench.jobs.items():
        job.made = made[name]
        job.check_network(bench.networks[name])
    return bench


def _build(order: dict[str, Any], made: Made) -> Bench:
    settings = ExtractSettings.model_validate(order["settings"])
    if order["devices"] and "ROOFLINE_DEVICE" not in os.environ:
        device = claim_device(settings.folder / "features", order["devices"])
        os.environ["ROOFLINE_DEVICE"] = os.environ["CUDA_VISIBLE_DEVICES"] = device
    tiles = read_tiles(settings)
    if tiles.sha256 != order["tiles_sha256"]:
        raise ExtractionError(
            f"table {settings.tiles.table}: differs from the one that the run was started with. "
            "All workers have to see the same files."
        )
    jobs = [
        BackboneShards(settings, tiles, name, tiles_sha256=order["tiles_sha256"])
        for name in order["backbones"]
    ]
    for job in jobs:
        job.made = made[job.backbone]
    options = {key: order[key] for key in ("allow_random", "strict", "share")}
    return open_bench(settings, tiles, jobs, _find(order["open_forward"]), **options)


def _name(open_forward: OpenForward | None) -> str:
    """Describe where a function is found, so that a worker finds it too."""
    return (
        f"{open_forward.__module__}:{open_forward.__name__}"
        if open_forward
        else "extract.networks.forward:open_forward"
    )


def _find(name: str) -> OpenForward:
    """Import late: Keras takes seconds to load, and a finished run does not need it."""
    module, _, function = name.partition(":")
    opener: OpenForward = getattr(importlib.import_module(module), function)
    return opener


def _ranges(missing: list[int], workers: int) -> list[list[int]]:
    """Cut the missing shards into ranges: long enough to keep a device busy, short enough to share out."""
    size = max(1, min(_SHARDS_A_RANGE, len(missing) // (workers * _RANGES_A_WORKER)))
    return [missing[i : i + size] for i in range(0, len(missing), size)]


def _by_processes(
    order: dict[str, Any], made: Made, missing: list[int], workers: int
) -> Iterator[Record]:
    """Share the shards among processes of this machine; where there are GPUs, one process a GPU."""
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    text = json.dumps(order)
    try:
        with worker_processes():
            (made,) = Parallel(n_jobs=workers)([delayed(open_worker)(text, made)])
            parallel = Parallel(
                n_jobs=workers, return_as="generator_unordered", batch_size=1, pre_dispatch=workers
            )
            yield from parallel(
                delayed(work_range)(text, made, indices) for indices in _ranges(missing, workers)
            )
    except TerminatedWorkerError:
        raise ExtractionError(
            "a worker process died: killed, or out of memory. The complete shards are kept; run the same "
            "command again, with fewer [extract] workers if memory is short."
        ) from None
    finally:
        # joblib would keep them, and their GPUs, for five minutes; whoever pressed Ctrl-C waits for no range of shards
        get_reusable_executor(kill_workers=True).shutdown(wait=True, kill_workers=True)


def _by_dask(
    order: dict[str, Any], made: Made, missing: list[int], workers: int
) -> Iterator[Record]:
    """Send the shards to the workers of a Dask cluster; what a lost worker had is done again by another."""
    try:
        from distributed import KilledWorker, as_completed
    except ImportError:
        raise ExtractionError(
            '[extract] engine = "dask" needs dask and distributed: pip install ".[cluster]".'
        ) from None
    with _client(order, workers) as client:
        hosts = Counter(
            worker["host"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()
        )
        text = json.dumps({**order, "share": max(hosts.values())})
        futures: list[Any] = []
        try:
            made = client.submit(open_worker, text, made, pure=False).result()
            ranges = _ranges(missing, sum(hosts.values()))
            futures += [
                client.submit(work_range, text, made, indices, pure=False) for indices in ranges
            ]
            for future in as_completed(futures):
                yield future.result()
                future.release()
        except KilledWorker as error:
            raise ExtractionError(
                f"workers of the cluster died again and again ({error}). The complete shards are kept; look for "
                "too little memory, then run the same command again."
            ) from None
        finally:
            if not isinstance(
                sys.exception(), KeyboardInterrupt
            ):  # whoever pressed Ctrl-C waits for no worker
                client.cancel(futures)
                with suppress(OSError):  # one may be gone
                    client.run(close_worker, text)


@contextmanager
def _client(order: dict[str, Any], workers: int) -> Iterator[Any]:
    """Connect to the cluster of the settings, or make one on this machine for as long as it is needed."""
    from distributed import Client, LocalCluster

    address = order["settings"]["extract"].get("scheduler")
    if address is None:
        quiet: dict[str, Any] = {
            "dashboard_address": None,
            "scheduler_kwargs": {"dashboard_address": ":0"},
        }  # any port
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, **quiet) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(address, timeout=10)
    except OSError as error:
        raise ExtractionError(
            f"[extract] scheduler = {address!r}: nobody answers ({error}). Start the scheduler, or mend the "
            "address; without it a cluster is made on this machine."
        ) from None
    with client:
        if not client.scheduler_info()["workers"]:
            client.wait_for_workers(1, timeout=600)
        yield client
