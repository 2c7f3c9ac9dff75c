"""Is this machine fit for this experiment? Each check is one line, with its remedy, before anybody pays for hours."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import psutil

from extract.checks.plan import count_missing, nearest_folder
from extract.errors import CheckError, EmbeddingsError, ExtractionError
from extract.execution.engine import visible_gpus
from extract.loop import OpenForward
from extract.pictures.picture_source import Batch
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.tables.tile_reader import Reader
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.clock import Clock, peak_rss_bytes

_SAMPLE = 64
_TOLERANCE = 5e-3  # relative; TF32, which some GPUs multiply in, keeps 10 bits
_ROOM = 1.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One finding: what was looked at, how it stands, and in words what was found and what to do."""

    name: str
    state: Literal["ok", "warn", "FAIL"]
    text: str


def examine(
    settings: ExtractSettings, *, open_forward: OpenForward | None = None
) -> Iterator[Check]:
    """Look at table, features that are there, images, device, arithmetic, each network, disk and memory, in this order.

    Parameters
    ----------
    open_forward : stands in for `extract.networks.forward.open_forward`.
    """
    try:
        tiles = read_tiles(settings)
    except (ValueError, OSError) as error:
        yield _fail("table", str(error))
        return
    yield _ok(
        "table",
        f"{len(tiles)} tiles, targets: {', '.join(f'{t} ({tiles.kind(t)})' for t in tiles.target_names)}",
    )
    jobs = [
        BackboneShards(settings, tiles, name, tiles_sha256=tiles.sha256)
        for name in settings.extract.backbones
    ]
    yield from filter(None, map(check_features, jobs))
    jobs = [job for job in jobs if not job.is_imported]
    if not jobs:
        return
    check, batch = check_images(settings, tiles)
    yield check
    device = check_device()
    row_bytes = dict[str, int]()
    yield device
    if device.state != "FAIL":
        yield check_arithmetic()
        for job in jobs:
            yield check_network(job, batch, row_bytes, open_forward)
    yield check_disk(settings, jobs, row_bytes)
    yield check_memory()


def refuse(checks: list[Check]) -> None:
    """Raise `CheckError` where a check failed."""
    failed = [check.name for check in checks if check.state == "FAIL"]
    if failed:
        raise CheckError(f"not fit: {', '.join(failed)}. Each line marked FAIL says what to do.")


def _ok(name: str, text: str) -> Check:
    return Check(name=name, state="ok", text=text)


def _warn(name: str, text: str) -> Check:
    return Check(name=name, state="warn", text=text)


def _fail(name: str, text: str) -> Check:
    return Check(name=name, state="FAIL", text=text)


def check_features(job: BackboneShards) -> Check | None:
    """Tell what is there already, and whether a run would go on beside it; None where nothing is."""
    name = f"features {job.backbone}"
    try:
        job.find_missing()
    except (EmbeddingsError, ExtractionError) as error:
        return _fail(name, str(error))
    n_there = len(job.shards) - len(job.missing)
    if job.is_imported:
        return _ok(name, "imported")
    return _ok(name, f"{n_there} of {len(job.shards)} shards are complete") if n_there else None


def check_images(settings: ExtractSettings, tiles: Tiles) -> tuple[Check, Batch | None]:
    """Read pictures spread over the table; gives those read too."""
    n = min(_SAMPLE, len(tiles))
    rows = np.linspace(0, len(tiles) - 1, n).astype(int)
    try:
        reader = Reader(settings, tiles)
    except (ValueError, OSError) as error:
        return _fail("images", str(error)), None
    batches = [reader.read(range(row, row + 1), Clock()) for row in rows]
    bad = [
        (tiles.path.iloc[row], batch.reasons[0])
        for row, batch in zip(rows, batches, strict=True)
        if batch.reasons[0]
    ]
    good = [batch for batch in batches if not batch.reasons[0]]
    pictures, facts = ([getattr(b, name) for b in good] for name in ("pictures", "facts"))
    batch = (
        Batch(np.concatenate(pictures), np.concatenate(facts), [""] * len(good)) if good else None
    )
    if not bad:
        return _ok("images", f"{n} of {len(tiles)} pictures read"), batch
    text = f"{len(bad)} of {n} pictures cannot be used (first: {bad[0][0]}: {bad[0][1]})."
    if batch is None:
        return _fail("images", f"{text} Are [tiles] images and path right?"), None
    return _warn("images", f"{text} They will be rejected rows."), batch


def check_device() -> Check:
    """Tell what the networks will run on; an NVIDIA GPU that is not used is worth a warning."""
    try:
        importlib.import_module(
            "extract.networks.backbones"
        )  # says what to do where Keras cannot load its backend
        import keras

        from extract.networks.runtimes.selection import choose_runtime, find_gpu, has_bfloat16

        gpu = find_gpu()
        chosen = dict.fromkeys(
            choose_runtime("auto", precision="float32", is_chain=is_chain)
            for is_chain in (True, False)
        )
    except (ValueError, ImportError) as error:
        return _fail("device", str(error))
    found = (
        f"{gpu.name if gpu else 'cpu'}, {' and '.join(chosen)}, keras {keras.__version__}; "
        f"bfloat16: {'yes' if has_bfloat16() else 'no'}"
    )
    there = visible_gpus()
    if there and gpu is None:
        return _warn(
            "device",
            f"{found}. This machine has {len(there)} GPUs that {keras.backend.backend()} does not see: "
            "install the extra `gpu`, or set KERAS_BACKEND to one that does.",
        )
    return _ok("device", found)


def check_arithmetic() -> Check:
    """Multiply and convolve on the device, and compare with NumPy."""
    import keras

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(64, 64)).astype(np.float32) for _ in range(2))
    picture = rng.normal(size=(1, 16, 16, 8)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 8, 4)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(picture[0], (3, 3), axis=(0, 1))
    expected = {"product": a @ b, "convolution": np.einsum("yxcij,ijco->yxo", windows, kernel)}
    try:
        found = {
            "product": keras.ops.convert_to_numpy(keras.ops.matmul(a, b)),
            "convolution": keras.ops.convert_to_numpy(
                keras.ops.conv(picture, kernel, padding="valid")
            )[0],
        }
    except Exception as error:  # a broken driver raises whatever it likes
        return _fail(
            "arithmetic",
            f"the device does not compute: {error}. Mend its driver, or hide it: CUDA_VISIBLE_DEVICES=-1.",
        )
    errors = {
        name: float(np.abs(found[name] - e).max() / np.abs(e).max()) for name, e in expected.items()
    }
    text = ", ".join(f"{name} differs from NumPy by {error:.1e}" for name, error in errors.items())
    if not max(errors.values()) < _TOLERANCE:
        return _fail(
            "arithmetic", f"{text}; expected less than {_TOLERANCE:.0e}. Do not trust this device."
        )
    return _ok("arithmetic", text)


def check_network(
    job: BackboneShards,
    batch: Batch | None,
    row_bytes: dict[str, int],
    open_forward: OpenForward | None,
) -> Check:
    """Load a network's weights, compile it, and run some pictures; notes the bytes of its rows."""
    name = f"network {job.backbone}"
    settings = job.settings
    if open_forward is None:
        from extract.networks.forward import open_forward as opened

        open_forward = opened
    side = settings.extract.size
    pictures = batch.pictures if batch else np.zeros((1, side, side, 3), np.uint8)
    try:
        probe = pictures[: settings.extract.batch]
        network: Any = open_forward(
            settings, job.backbone, probe, allow_random=False, **job.made_in()
        )
        outputs = network.submit(probe).result()
    except (ValueError, RuntimeError, OSError) as error:
        return _fail(name, str(error))
    size = np.dtype(settings.extract.dtype).itemsize
    row_bytes[job.backbone] = sum(int(np.prod(shape)) * size for shape in network.shapes.values())
    broken = [cut for cut, values in outputs.items() if not np.isfinite(values).all()]
    said = f"weights {network.weights} (SHA-256 {network.weights_sha256[:12]}), {network.precision} by "
    said += f"{network.runtime} on {network.device}"
    if broken:
        return _fail(
            name,
            f'{said}: not finite at {", ".join(broken)}. Set [extract] precision = "float32", or fetch the '
            "weights again.",
        )
    dead = [cut for cut, values in outputs.items() if not values.any()]
    if dead and batch:
        return _fail(
            name,
            f"{said}: nothing but zeros at {', '.join(dead)}, too small for {settings.extract.dtype} or lost on "
            'the way. Set [extract] dtype = "float32", or cut elsewhere.',
        )
    if network.weights.startswith("random:"):
        return _warn(
            name, f"{said}. Random weights: the numbers will say nothing about the real network."
        )
    return _warn(name, f"{said}. {network.note}") if network.note else _ok(name, said)


def check_disk(
    settings: ExtractSettings, jobs: list[BackboneShards], row_bytes: dict[str, int]
) -> Check:
    """Compare what the missing shards need with what is free."""
    folder = nearest_folder(settings.folder / "features")
    if not os.access(folder, os.W_OK):
        return _fail(
            "disk", f"{folder} cannot be written. Mend its rights, or set `out` to another folder."
        )
    free = shutil.disk_usage(folder).free
    needed = sum(count_missing(job) * row_bytes.get(job.backbone, 0) for job in jobs)
    return _room(
        "disk",
        needed,
        free,
        f"in {folder}",
        "Make room, set `out` elsewhere, or cut less (map and flat are large).",
    )


def check_memory() -> Check:
    """Compare what this process took at most, with the networks loaded, with what the machine has."""
    peak = peak_rss_bytes()
    return _room(
        "memory", peak, psutil.virtual_memory().total, "in all", "Lower [extract] batch or size."
    )


def _room(name: str, needed: int, there: int, where: str, remedy: str) -> Check:
    text = f"{needed / 1e9:.2f} GB needed, {there / 1e9:.2f} GB {where}"
    make: Callable[[str, str], Check] = (
        _ok if needed * _ROOM < there else _warn if needed < there else _fail
    )
    return make(name, text if make is _ok else f"{text}. {remedy}")
