"""A network that needs no framework: means of the pictures' cells, quick and exact. Stands in for `extract.networks.forward`."""

from __future__ import annotations

import os
import time

import numpy as np

from extract.settings import ExtractSettings


class Pending:
    def __init__(self, rows):
        self._rows = rows

    def result(self):
        return self._rows


class StubNetwork:
    """Return each picture's means over a grid at every cut; `:map` cuts keep the grid."""

    precision, runtime, device, note = "float32", "stub", "cpu", ""
    weights, weights_sha256, versions = "random:0", "0" * 64, "stub"

    def __init__(self, cuts, seconds: float):
        self._cuts, self._seconds = cuts, seconds
        self.shapes = {cut.dataset: (4, 4, 3) if cut.pooling == "map" else (48,) for cut in cuts}

    def submit(self, pictures):
        if self._seconds:
            time.sleep(self._seconds)
        n, cell = len(pictures), pictures.shape[1] // 4
        grid = pictures[:, : cell * 4, : cell * 4].reshape(n, 4, cell, 4, cell, 3)
        means = grid[:, :, :4, :, :4].mean(axis=(2, 4), dtype=np.float32)
        return Pending({name: means.reshape(n, *shape) for name, shape in self.shapes.items()})


def open_stub(
    settings: ExtractSettings, backbone, probe, *, allow_random, precision=None, runtime=None
):
    return StubNetwork(
        settings.extract.cuts_of(backbone), float(os.environ.get("STUB_SECONDS", "0"))
    )
