"""What an extraction will cost, before anybody pays for it: bytes, and seconds predicted from a short real run."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.files.locks import make_folder
from extract.loop import Bench, OpenForward, make_shards, open_bench
from extract.pictures.decode import PICTURE
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.embeddings import open_embeddings
from extract.tables.tile_reader import Reader
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.clock import peak_rss_bytes
from extract.timing.stages import Record, say_verdict

_OTHER_BYTES = (
    PICTURE.itemsize + 8 + 1 + 16
)  # a row's facts, id, status, and reference to its reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a probe measured, in seconds.

    Attributes
    ----------
    forward : backbone → a tile's time on the device. `reading` : a tile's time to read and decode, by all processes together.
    overhead : factor of the whole on what bounds it (1 where the device never waits).
    startup : loading Keras, loading and compiling all networks. `verdict` : what bounds the run. `n_tiles` : tiles of the probe.
    """

    forward: dict[str, float]
    reading: float
    overhead: float
    startup: float
    verdict: str
    n_tiles: int


def plan_extraction(
    settings: ExtractSettings,
    *,
    seconds: float = 8.0,
    allow_random: bool = False,
    open_forward: OpenForward | None = None,
) -> dict[str, Any]:
    """Predict bytes and time of what `run` would do now; complete shards cost nothing.

    A few of the table's own tiles go through the real loop, into a folder beside the features that is removed again.

    Parameters
    ----------
    seconds : about how long the probe's loop takes; at least two batches are run.
    allow_random, open_forward : as in `run_extraction`.

    Returns
    -------
    Plain values: `tiles`, `startup_seconds`, `loop_seconds`, `seconds`, `bytes`, `disk_free_bytes`, `peak_rss_bytes`,
    `probe_tiles`, `verdict`, and for each of `backbones` its `missing_tiles`, `missing_shards`, `shards`, `is_imported`,
    `seconds` (alone), `precision`, `runtime`, `device`, and for each of `cuts` its row's `shape`, and `bytes` missing and
    in `all`.

    Raises
    ------
    ExtractionError, LockError, TableError, ImageSourceError, NetworkError : as `run_extraction`.
    """
    tiles = read_tiles(settings)
    jobs = [
        BackboneShards(settings, tiles, name, tiles_sha256=tiles.sha256)
        for name in settings.extract.backbones
    ]
    for job in jobs:
        job.find_missing()
    features = settings.folder / "features"
    free = shutil.disk_usage(nearest_folder(features)).free
    plan: dict[str, Any] = {
        "tiles": len(tiles),
        "seconds": 0.0,
        "bytes": 0,
        "disk_free_bytes": free,
        "peak_rss_bytes": 0,
    }
    pending = [job for job in jobs if job.missing]
    bench = None
    speed = None
    if pending:
        make_folder(features)
        with tempfile.TemporaryDirectory(prefix=".plan-", dir=features) as folder:
            bench, speed = measure_speed(
                settings,
                tiles,
                [job.backbone for job in pending],
                Path(folder),
                seconds=seconds,
                open_bench=_opener(allow_random, open_forward),
            )
        plan["peak_rss_bytes"] += bench.decoders.count_bytes()
        bench.close()
        plan |= predict(
            speed,
            [(i, job.backbone, _count(job, i)) for job in pending for i in job.missing],
            batch=settings.extract.batch,
        )
    parts = {job.backbone: _part(job, bench, speed) for job in jobs}
    plan["bytes"] = sum(cut["bytes"] for part in parts.values() for cut in part["cuts"].values())
    plan["bytes"] += sum(map(count_missing, jobs)) * _OTHER_BYTES
    plan["peak_rss_bytes"] += peak_rss_bytes()
    return plan | {"backbones": parts}


def nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def count_missing(job: BackboneShards) -> int:
    """Count the tiles that a backbone lacks."""
    return sum(_count(job, i) for i in job.missing)


def _count(job: BackboneShards, index: int) -> int:
    return job.slices[index].stop - job.slices[index].start


def _opener(allow_random: bool, open_forward: OpenForward | None) -> Callable[..., Bench]:
    def opened(settings: ExtractSettings, tiles: Tiles, jobs: list[BackboneShards]) -> Bench:
        if open_forward is not None:
            return open_bench(settings, tiles, jobs, open_forward, allow_random=allow_random)
        began = time.perf_counter()
        from extract.networks.forward import (
            open_forward as real,  # Keras takes seconds to load, which count, as in the run
        )

        loading = time.perf_counter() - began
        bench = open_bench(settings, tiles, jobs, real, allow_random=allow_random)
        return replace(bench, startup_seconds=bench.startup_seconds + loading)

    return opened


def measure_speed(
    settings: ExtractSettings,
    tiles: Tiles,
    backbones: list[str],
    folder: Path,
    *,
    seconds: float,
    open_bench: Callable[..., Bench],
) -> tuple[Bench, Speed]:
    """Run the loop itself on a few tiles, spread over the table: first one batch, then as many as the seconds allow."""
    batch = settings.extract.batch

    def probe(n: int, name: str, opened: Bench | None) -> tuple[Bench, Record]:
        n = min(n, len(tiles)) if len(tiles) < batch else n
        some = _take(tiles, np.arange(n) * max(1, len(tiles) // n) % len(tiles))
        shard = settings.extract.model_copy(update={"shard": n})
        inside = settings.model_copy(update={"out": folder / name, "extract": shard})
        jobs = [BackboneShards(inside, some, backbone, tiles_sha256="") for backbone in backbones]
        for job in jobs:
            job.folder.mkdir(parents=True)
        bench = (
            replace(
                opened,
                settings=inside,
                reader=Reader(inside, some),
                jobs={job.backbone: job for job in jobs},
            )
            if opened
            else open_bench(inside, some, jobs)
        )
        return bench, make_shards(bench, [0])

    bench, first = probe(batch, "first", None)
    n_batches = max(2, math.ceil(seconds / first["seconds"]))
    bench, record = probe(n_batches * batch, "second", bench)
    return bench, read_speed(record)


def _take(tiles: Tiles, rows: Any) -> Tiles:
    """Return a table of some rows; a row may come twice."""
    return replace(
        tiles,
        id=tiles.id.iloc[rows].reset_index(drop=True),
        path=tiles.path.iloc[rows].reset_index(drop=True),
    )


def read_speed(record: Record) -> Speed:
    """Turn what a probe measured (see `extract.timing.stages.Watch.record`) into seconds a tile."""
    parts = record["backbones"]
    n_tiles = max(part["tiles"] for part in parts.values())
    forward = {name: part["seconds"]["forward"] / part["tiles"] for name, part in parts.items()}
    reading = (
        max((p["seconds"]["read"] + p["seconds"]["decode"]) / p["tiles"] for p in parts.values())
        / record["decoders"]
    )
    bound = max(sum(forward.values()), reading, 1e-9)
    return Speed(
        forward=forward,
        reading=reading,
        overhead=record["seconds"] / n_tiles / bound,
        n_tiles=n_tiles,
        startup=record["startup_seconds"],
        verdict=say_verdict([record]),
    )


def predict(speed: Speed, missing: list[tuple[int, str, int]], *, batch: int) -> dict[str, Any]:
    """Predict a run's seconds; a picture is decoded once for all backbones that lack its shard.

    Parameters
    ----------
    missing : (number of the shard, backbone, tiles), each shard that is to be made.
    batch : tiles of a pass; a shard's last one is filled up, and costs what a full one costs.
    """
    shards: dict[int, tuple[list[str], int]] = {}
    for index, backbone, n_tiles in missing:
        shards.setdefault(index, ([], n_tiles))[0].append(backbone)
    loop = sum(shard_seconds(speed, names, n, batch=batch) for names, n in shards.values())
    return {
        "startup_seconds": speed.startup,
        "loop_seconds": loop,
        "seconds": speed.startup + loop,
        "probe_tiles": speed.n_tiles,
        "verdict": speed.verdict,
    }


def shard_seconds(speed: Speed, backbones: list[str], n_tiles: int, *, batch: int) -> float:
    """Return the time of a shard through some backbones: the device's or the decoding processes', whichever is longer."""
    on_device = -(-n_tiles // batch) * batch * sum(speed.forward[name] for name in backbones)
    return max(on_device, n_tiles * speed.reading) * speed.overhead


def _part(job: BackboneShards, bench: Bench | None, speed: Speed | None) -> dict[str, Any]:
    network = bench.networks.get(job.backbone) if bench else None
    shapes: Mapping[str, tuple[int, ...]] = network.shapes if network else read_shapes(job)
    size = np.dtype(job.settings.extract.dtype).itemsize
    n_tiles = count_missing(job)
    row_bytes = {name: int(np.prod(shape)) * size for name, shape in shapes.items()}
    return {
        "missing_tiles": n_tiles,
        "missing_shards": len(job.missing),
        "shards": len(job.shards),
        "is_imported": job.is_imported,
        "precision": network.precision if network else "",
        "runtime": network.runtime if network else "",
        "device": network.device if network else "",
        "seconds": sum(
            shard_seconds(speed, [job.backbone], _count(job, i), batch=job.settings.extract.batch)
            for i in job.missing
        )
        if speed and network
        else 0.0,
        "cuts": {
            name: {
                "shape": list(shape),
                "bytes": n_tiles * row_bytes[name],
                "all": len(job.tiles) * row_bytes[name],
            }
            for name, shape in shapes.items()
        },
    }


def read_shapes(job: BackboneShards) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a backbone whose shards are complete, from the file over them, or from its first shard."""
    with open_embeddings(job.virtual if job.virtual.is_file() else job.shards[0]) as file:
        return {name: tuple(data.shape[1:]) for name, data in file["cuts"].items()}
