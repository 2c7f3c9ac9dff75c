"""The other ways to do the same: the field's own scripts, and thingsvision's, which are copied here
in spirit.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.rows import Row
from benchmarks.speed import interleave, open_network, whole_rate
from benchmarks.tiles import CUTS, Site
from extract.networks.backbones import build_base
from extract.networks.registry import REGISTRY


def measure_rivals(site: Site, *, quick: bool) -> Iterator[Row]:
    """(4) The whole extraction over the field's own way and over thingsvision's: same tiles, same
    four cuts, warm.
    """
    n_batches = 1 if quick else 2
    for backbone in site.backbones:
        settings = site.settings(backbone, n_tiles=n_batches * site.batch)
        forward = open_network(site, settings, backbone)
        script = FieldScript(site, backbone)
        paths = [site.pictures[i % len(site.pictures)] for i in range(n_batches * site.batch)]
        script.run(paths[: site.batch])
        long = site.settings(backbone, n_tiles=(2 if quick else 4) * site.batch)
        rates = interleave(
            2 if quick else 3,
            ours=partial(whole_rate, long, {backbone: forward}),
            field=partial(script.run, paths),
        )
        slow = script.run_anew(paths)
        what = f"{backbone}, {forward.precision}, {forward.runtime}"
        yield Row("field's own way", backbone, rates["field"], unit="tiles/s")
        yield Row("thingsvision's way", backbone, slow, unit="tiles/s")
        yield Row("4 ours / the field's own", what, rates["ours"] / rates["field"], at_least=6.0)
        yield Row("4 ours / thingsvision's", what, rates["ours"] / slow, at_least=1.0)


class FieldScript:
    """Pillow one file at a time, one float32 network a cut, `predict`, `np.save`; the means are
    taken in NumPy.
    """

    def __init__(self, site: Site, backbone: str) -> None:
        self._folder = site.folder
        self._size = site.size
        self._batch = site.batch
        self._layers = CUTS[backbone]
        module = importlib.import_module(f"keras.applications.{REGISTRY[backbone].module}")
        self._preprocess = module.preprocess_input
        self._base = build_base(backbone, size=site.size)
        self._models = {layer: self._cut(layer) for layer in self._layers}

    def _cut(self, layer: str) -> keras.Model:
        return keras.Model(self._base.inputs, self._base.get_layer(layer).output)

    def run(self, paths: list[Path]) -> float:
        """Embed these files as published scripts do: all pictures in memory, then one `predict` a
        cut [tiles/s].
        """
        start = time.perf_counter()
        pictures = self._load(paths)
        for layer, model in self._models.items():
            self._save(layer, model.predict(pictures, batch_size=self._batch, verbose=0))
        return len(paths) / (time.perf_counter() - start)

    def run_anew(self, paths: list[Path]) -> float:
        """Embed these files with a new Keras model and a `predict` call for every batch of every
        cut [tiles/s].
        """
        start = time.perf_counter()
        for layer in self._layers:
            parts = []
            for i in range(0, len(paths), self._batch):
                model = self._cut(layer)
                pictures = self._load(paths[i : i + self._batch])
                parts.append(model.predict(pictures, batch_size=self._batch, verbose=0))
            self._save(layer, np.concatenate(parts))
        return len(paths) / (time.perf_counter() - start)

    def _load(self, paths: list[Path]) -> NDArray[Any]:
        pictures = []
        for path in paths:
            with Image.open(path) as image:
                small = image.convert("RGB").resize((self._size, self._size))
                pictures.append(np.asarray(small, np.float32))
        return self._preprocess(np.stack(pictures))

    def _save(self, layer: str, maps: NDArray[Any]) -> None:
        np.save(self._folder / f"{layer}.npy", maps.mean(axis=(1, 2)))
