"""The extraction beside the bare network: the pipeline, many cuts, precision, runtimes,
decoding.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import keras
import numpy as np
from joblib import cpu_count
from numpy.typing import NDArray

from benchmarks.million import StubNetwork
from benchmarks.rows import Row
from benchmarks.tiles import CUTS, Site
from extract.loop.pipeline import ForwardNetwork
from extract.networks.backbones import build_network
from extract.networks.forward import Forward, least_cosine, open_forward
from extract.networks.registry import REGISTRY
from extract.networks.runtimes.selection import find_gpu, has_bfloat16, is_installed
from extract.pictures.decoder_pool import DecoderPool
from extract.pictures.image_folder import PictureLocation
from extract.run import run_extraction
from extract.settings import ExtractSettings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import read_tiles

IN_FLIGHT = 3
PIPELINE_GOALS = {"vgg16": 0.95, "resnet50v2": 0.90, "mobilenetv2": 0.90}


def open_network(site: Site, settings: ExtractSettings, backbone: str, **options: str) -> Forward:
    """Open a backbone as a run does."""
    return open_forward(settings, backbone, site.probe(settings), allow_random=False, **options)


def bare_rate(forward: Forward, pictures: NDArray[np.uint8], *, seconds: float) -> float:
    """Rate of the network alone [tiles/s]: one batch again and again, several in flight, fetched as
    a run fetches them.
    """
    flight: deque[Any] = deque()
    n_batches, start = 0, time.perf_counter()
    while n_batches < 3 or time.perf_counter() - start < seconds:
        flight.append(forward.submit(pictures))
        n_batches += 1
        if len(flight) >= IN_FLIGHT:
            flight.popleft().result()
    while flight:
        flight.popleft().result()
    return n_batches * len(pictures) / (time.perf_counter() - start)


def whole_rate(settings: ExtractSettings, forwards: Mapping[str, ForwardNetwork]) -> float:
    """Rate of a whole run, picture files to closed HDF5, without start-up [tiles/s]; the networks
    are open already.
    """

    def give(_settings: ExtractSettings, backbone: str, *_: Any, **__: Any) -> ForwardNetwork:
        return forwards[backbone]

    summary = run_extraction(settings, fresh=True, open_forward=give)
    return summary.n_tiles / max(stage["run_seconds"] for stage in summary.stages.values())


def interleave(rounds: int, **ways: Callable[[], float]) -> dict[str, float]:
    """Measure all ways in turn, `rounds` times, and give each one's median: what disturbs one
    disturbs all.
    """
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, measure in ways.items():
            measured[name].append(measure())
    return {name: statistics.median(values) for name, values in measured.items()}


def decode_rate(site: Site, *, n_tiles: int, processes: int) -> float:
    """Rate of reading and decoding alone, in so many processes [tiles/s]."""
    settings = site.settings("mobilenetv2", n_tiles=n_tiles)
    reader, batch = TileReader(settings, read_tiles(settings)), settings.extract.batch
    slices = [range(i, min(i + batch, n_tiles)) for i in range(0, n_tiles, batch)]
    with closing(
        DecoderPool(reader.source, processes=processes, batch=batch, n_batches=len(slices))
    ) as decoders:
        decoders.wait_until_ready()
        for rows in slices[:processes]:  # each loads its libraries
            decoders.submit(reader.find(rows))
        decoders.reset()
        start = time.perf_counter()
        for decoding in [decoders.submit(reader.find(rows)) for rows in slices]:
            decoding.done.result()
        return n_tiles / (time.perf_counter() - start)


def measure_loop(site: Site, *, n_tiles: int) -> Iterator[Row]:
    """(7) What the loop does beside decoding, with a network that does nothing: it bounds the rate
    on any number of cores.
    """
    network = StubNetwork(
        {
            f"{cut}:avg": (width,)
            for cut, width in zip(CUTS["resnet50v2"], (256, 512, 1024, 2048), strict=True)
        }
    )
    rates, seconds = [], []
    for n in (site.batch, n_tiles):
        settings, start = site.settings("resnet50v2", n_tiles=n), time.process_time()
        rates.append(whole_rate(settings, {"resnet50v2": network}))
        seconds.append(time.process_time() - start)
    own = (seconds[1] - seconds[0]) / (
        n_tiles - site.batch
    )  # what a run costs before its first tile is not a tile's
    yield Row("7 loop, a network that does nothing", "four pooled cuts", rates[1], unit="tiles/s")
    yield Row(
        "7 loop's own time",
        f"a tile; on any number of cores at most {1 / own:,.0f} tiles/s",
        own * 1e6,
        unit="µs",
    )


def measure_pipeline(site: Site, *, quick: bool) -> Iterator[Row]:
    """(1, 7) The whole pipeline's rate over the bare network's."""
    seconds, gpu, cores = 2.0 if quick else 6.0, find_gpu(), cpu_count()
    ceiling = decode_rate(site, n_tiles=512 * cores, processes=cores)
    yield Row("decode", f"read and decode alone, {cores} processes", ceiling, unit="tiles/s")
    yield from measure_loop(site, n_tiles=2048 * cores)
    for backbone in site.backbones:
        small = site.settings(backbone, n_tiles=site.batch)
        forward, pictures = open_network(site, small, backbone), site.probe(small)
        n_batches = max(4, round(bare_rate(forward, pictures, seconds=1.0) * seconds / site.batch))
        settings = site.settings(backbone, n_tiles=n_batches * site.batch)
        rates = interleave(
            3,
            bare=partial(bare_rate, forward, pictures, seconds=seconds),
            whole=partial(whole_rate, settings, {backbone: forward}),
        )
        what = f"{backbone}, {forward.precision}, {forward.runtime} on {forward.device}"
        yield Row("bare", what, rates["bare"], unit="tiles/s")
        yield Row("whole", what, rates["whole"], unit="tiles/s")
        item, goal = (
            ("7 pipeline / bare", 0.85) if gpu else ("1 pipeline / bare", PIPELINE_GOALS[backbone])
        )
        what += "; decode-bound" if ceiling < rates["bare"] else ""
        yield Row(item, what, rates["whole"] / rates["bare"], at_least=goal)
        if (
            gpu is None
            # decoding and the network share the cores: in turn they would take this long a tile
        ):
            both = 1 / rates["bare"] + 1 / ceiling
            yield Row(
                "pipeline / what the cores can do",
                f"{backbone}, network and decoding",
                rates["whole"] * both,
            )


def measure_cuts(site: Site, *, quick: bool) -> Iterator[Row]:
    """(2) Four pooled cuts over the deepest alone; two backbones with one decode."""
    seconds = 1.0 if quick else 4.0
    for backbone in site.backbones:
        one, four = (
            site.settings(backbone, n_tiles=site.batch, layers=layers) for layers in (1, 4)
        )
        pictures = site.probe(four)
        rates = interleave(
            5,
            one=partial(bare_rate, open_network(site, one, backbone), pictures, seconds=seconds),
            four=partial(bare_rate, open_network(site, four, backbone), pictures, seconds=seconds),
        )
        yield Row("2 cost of four cuts / one", backbone, rates["one"] / rates["four"], at_most=1.05)
    yield from _measure_sharing(site)


def _measure_sharing(site: Site) -> Iterator[Row]:
    pair = ("resnet50v2", "mobilenetv2")
    settings = site.settings(*pair, n_tiles=4 * site.batch)
    forwards = {backbone: open_network(site, settings, backbone) for backbone in pair}
    n_decoded, submit = [0], DecoderPool.submit

    def count(decoders: DecoderPool, places: list[PictureLocation]) -> Any:
        n_decoded[0] += len(places)
        return submit(decoders, places)

    DecoderPool.submit = count
    try:
        whole_rate(settings, forwards)
    finally:
        DecoderPool.submit = submit
    yield Row(
        "2 decodes a tile, two backbones",
        " + ".join(pair),
        n_decoded[0] / (4 * site.batch),
        at_most=1.0,
    )


def measure_precision(site: Site, *, quick: bool) -> Iterator[Row]:  # noqa: ARG001  (all sections are called alike)
    """(3) The least cosine of bfloat16 to float32, and what `auto` takes."""
    for backbone in site.backbones:
        settings = site.settings(backbone, n_tiles=site.batch)
        if not has_bfloat16():
            yield Row(
                "3 least cosine, bfloat16",
                f"{backbone}: no bfloat16 here, auto takes float32",
                None,
                at_least=0.9999,
            )
            continue
        rows = [
            open_network(site, settings, backbone, precision=p)(site.probe(settings))
            for p in ("float32", "bfloat16")
        ]
        cosine, cut = least_cosine(*rows)
        yield Row(
            "3 least cosine, bfloat16", f"{backbone} at {cut}", cosine, at_least=0.9999, digits=6
        )


def measure_runtimes(site: Site, *, quick: bool) -> Iterator[Row]:
    """(5) The runtimes that are installed, beside Keras's own `predict_on_batch`, in float32."""
    seconds = 2.0 if quick else 6.0
    for backbone in site.backbones:
        settings = site.settings(backbone, n_tiles=site.batch, precision="float32")
        pictures, extract = site.probe(settings), settings.extract
        model = build_network(
            extract.cuts_of(backbone), size=extract.size, weights="random:0", stored=extract.dtype
        ).model
        names = [
            keras.backend.backend(),
            *(name for name in ("openvino", "ncnn") if _can_run(name, backbone)),
        ]
        networks = {name: open_network(site, settings, backbone, runtime=name) for name in names}
        ways = {
            name: partial(bare_rate, forward, pictures, seconds=seconds)
            for name, forward in networks.items()
        }
        rates = interleave(
            3, predict_on_batch=partial(_predict_rate, model, pictures, seconds=seconds), **ways
        )
        for name, rate in rates.items():
            yield Row("5 runtime", f"{backbone}, float32, {name}", rate, unit="tiles/s")
        for name in names[1:]:
            yield Row(f"5 {name} / keras", backbone, rates[name] / rates[names[0]])
            cosine, cut = least_cosine(networks[names[0]](pictures), networks[name](pictures))
            yield Row(
                f"5 least cosine, {name}", f"{backbone} at {cut}", cosine, at_least=0.9999, digits=6
            )


def _can_run(runtime: str, backbone: str) -> bool:
    is_there = find_gpu() is None and is_installed(runtime)
    return is_there and (runtime != "ncnn" or bool(REGISTRY[backbone].chain))


def _predict_rate(model: keras.Model, pictures: NDArray[np.uint8], *, seconds: float) -> float:
    model.predict_on_batch(pictures)  # compiles at the first call
    n_batches, start = 0, time.perf_counter()
    while n_batches < 3 or time.perf_counter() - start < seconds:
        model.predict_on_batch(pictures)
        n_batches += 1
    return n_batches * len(pictures) / (time.perf_counter() - start)
