"""Check whether this machine is fit for an experiment, before anybody pays for hours."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import psutil

from extract.checks.plan import count_missing, count_row_bytes, list_backbones, nearest_folder
from extract.config.arrays import Array, Pixels
from extract.errors import CheckError, EmbeddingsError, ExtractionError, ImageSourceError
from extract.execution.workers import list_gpus
from extract.loop.pipeline import OpenForward, choose_forward
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.clock import Clock, peak_rss_bytes

_SAMPLE = 64  # pictures
_SPACE_FACTOR = 1.2


class Check(NamedTuple):
    """One finding: what was checked, how it stands, what was found and what to do."""

    name: str
    state: Literal["ok", "warn", "FAIL"]
    text: str


def examine(
    settings: ExtractSettings, *, open_forward: OpenForward | None = None
) -> Iterator[Check]:
    """Check table, complete features, images, device, networks, disk and memory.

    Parameters
    ----------
    open_forward : stands in for `extract.networks.forward.open_forward`.
    """
    try:
        tiles = read_tiles(settings)
    except (ValueError, OSError) as error:
        yield Check("table", "FAIL", str(error))
        return
    targets = ", ".join(f"{name} ({tiles.kind(name)})" for name in tiles.target_names)
    yield Check("table", "ok", f"{len(tiles)} tiles, targets: {targets}")
    backbones = list_backbones(settings, tiles)
    yield from filter(None, map(check_features, backbones))
    backbones = [backbone for backbone in backbones if not backbone.is_imported]
    if not backbones:
        return
    check, pictures = check_images(settings, tiles)
    yield check
    device = check_device()
    yield device
    n_bytes = 0
    if device.state != "FAIL":
        for backbone in backbones:
            check, row_bytes = check_network(backbone, pictures, open_forward)
            n_bytes += count_missing(backbone) * row_bytes
            yield check
    yield check_disk(settings, n_bytes)
    yield check_memory()


def refuse(checks: list[Check]) -> None:
    """Raise `CheckError` where a check failed."""
    failed = [check.name for check in checks if check.state == "FAIL"]
    if failed:
        raise CheckError(f"not fit: {', '.join(failed)}. Each line marked FAIL says what to do.")


def check_features(backbone: BackboneShards) -> Check | None:
    """Check whether a run would go on beside the shards that are there; None where none are."""
    name = f"features {backbone.backbone}"
    try:
        backbone.find_missing()
    except (EmbeddingsError, ExtractionError, ImageSourceError) as error:
        return Check(name, "FAIL", str(error))
    n_shards = len(backbone.shards)
    n_complete = n_shards - len(backbone.missing)
    if backbone.is_imported:
        return Check(name, "ok", "imported")
    if n_complete == 0:
        return None
    return Check(name, "ok", f"{n_complete} of {n_shards} shards are complete")


def check_images(settings: ExtractSettings, tiles: Tiles) -> tuple[Check, Pixels | None]:
    """Read pictures spread over the table; return those that can be used too."""
    n_tiles = len(tiles)
    n = min(_SAMPLE, n_tiles)
    rows = np.linspace(0, n_tiles - 1, n, dtype=np.int64)
    bad = []
    pictures = []
    try:
        reader = TileReader(settings, tiles)
    except (ValueError, OSError) as error:
        return Check("images", "FAIL", str(error)), None
    for row in rows:
        batch = reader.read(range(row, row + 1), Clock())
        if batch.reasons[0]:
            bad.append(f"{tiles.path.iloc[row]}: {batch.reasons[0]}")
        else:
            pictures.append(batch.pictures)
    if not bad:
        check = Check("images", "ok", f"{n} of {n_tiles} pictures read")
        return check, np.concatenate(pictures)
    text = f"{len(bad)} of {n} pictures cannot be used (first: {bad[0]})."
    if not pictures:
        return Check("images", "FAIL", f"{text} Are [tiles] images and path right?"), None
    check = Check("images", "warn", f"{text} They will be rejected rows.")
    return check, np.concatenate(pictures)


def check_device() -> Check:
    """Find what the networks will run on; an NVIDIA GPU that is not used is worth a warning."""
    try:
        import extract.networks.backbones  # noqa: F401, I001  # reports a Keras that cannot load
        import keras

        from extract.networks.runtimes.selection import choose_runtime, find_gpu, has_bfloat16

        gpu = find_gpu()
        runtimes = [
            choose_runtime("auto", precision="float32", is_chain=is_chain)
            for is_chain in (True, False)
        ]
    except (ValueError, ImportError) as error:
        return Check("device", "FAIL", str(error))
    device = gpu.name if gpu else "cpu"
    bfloat16 = "yes" if has_bfloat16() else "no"
    distinct = dict.fromkeys(runtimes)
    used = " and ".join(distinct)
    found = f"{device}, {used}, keras {keras.__version__}; bfloat16: {bfloat16}"
    gpus = list_gpus()
    if gpus and gpu is None:
        advice = (
            f"This machine has {len(gpus)} GPUs that {keras.backend.backend()} does not see: "
            "install the extra `gpu`, or set KERAS_BACKEND to one that does."
        )
        return Check("device", "warn", f"{found}. {advice}")
    return Check("device", "ok", found)


def check_network(
    backbone: BackboneShards,
    pictures: Pixels | None,
    open_forward: OpenForward | None = None,
) -> tuple[Check, int]:
    """Load a network's weights, compile it, and run some pictures; return the bytes of a row too.

    Parameters
    ----------
    pictures : (n, side, side, 3), or None to run one that is black.
    """
    name = f"network {backbone.backbone}"
    extract = backbone.settings.extract
    probe = np.zeros((1, extract.size, extract.size, 3), np.uint8)
    if pictures is not None:
        probe = pictures[: extract.batch]
    try:
        network = choose_forward(open_forward)(
            backbone.settings, backbone.backbone, probe, allow_random=False, **backbone.made_in()
        )
        outputs = network.submit(probe).result()
    except (ValueError, RuntimeError, OSError) as error:
        return Check(name, "FAIL", str(error)), 0
    except Exception as error:  # a broken driver raises whatever it likes
        first, *_ = str(error).splitlines() or [type(error).__name__]
        text = (
            f"the device does not compute: {first}. Mend its driver, or hide it: "
            "CUDA_VISIBLE_DEVICES=-1."
        )
        return Check(name, "FAIL", text), 0
    row_bytes = sum(count_row_bytes(shape, extract.dtype) for shape in network.shapes.values())
    found = (
        f"weights {network.weights} (SHA-256 {network.weights_sha256[:12]}), {network.precision} "
        f"by {network.runtime} on {network.device}"
    )
    fault = _describe_outputs(outputs, extract.dtype, is_black=pictures is None)
    if fault:
        return Check(name, "FAIL", f"{found}: {fault}"), row_bytes
    note = network.note
    if network.weights.startswith("random:"):
        note = "Random weights: the numbers will say nothing about the real network."
    if note:
        return Check(name, "warn", f"{found}. {note}"), row_bytes
    return Check(name, "ok", found), row_bytes


def _describe_outputs(outputs: dict[str, Array], dtype: str, *, is_black: bool) -> str:
    """Return what is wrong with the embeddings of some pictures, '' where nothing is."""
    broken = [cut for cut, values in outputs.items() if not np.isfinite(values).all()]
    if broken:
        names = ", ".join(broken)
        return (
            f'not finite at {names}. Set [extract] precision = "float32", or fetch the weights '
            "again."
        )
    empty = [cut for cut, values in outputs.items() if not values.any()]
    if is_black or not empty:
        return ""
    names = ", ".join(empty)
    return (
        f"nothing but zeros at {names}, too small for {dtype} or lost on the way. "
        'Set [extract] dtype = "float32", or cut elsewhere.'
    )


def check_disk(settings: ExtractSettings, n_bytes: int) -> Check:
    """Compare the bytes of the missing shards with what is free."""
    folder = nearest_folder(settings.folder / "features")
    if not os.access(folder, os.W_OK):
        text = f"{folder} cannot be written. Mend its rights, or set `out` to another folder."
        return Check("disk", "FAIL", text)
    free = shutil.disk_usage(folder).free
    remedy = "Make room, set `out` elsewhere, or cut less (map and flat are large)."
    return _check_space("disk", n_bytes, free, f"in {folder}", remedy)


def check_memory() -> Check:
    """Compare this process's peak, with the networks loaded, with what the machine has."""
    total = psutil.virtual_memory().total
    remedy = "Lower [extract] batch or size."
    return _check_space("memory", peak_rss_bytes(), total, "in all", remedy)


def _check_space(name: str, needed: int, there: int, where: str, remedy: str) -> Check:
    text = f"{needed / 1e9:.2f} GB needed, {there / 1e9:.2f} GB {where}"
    if needed * _SPACE_FACTOR < there:
        return Check(name, "ok", text)
    if needed < there:
        return Check(name, "warn", f"{text}. {remedy}")
    return Check(name, "FAIL", f"{text}. {remedy}")
