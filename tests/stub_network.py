"""Stub network: exact means of the pictures' cells, without a framework."""

from __future__ import annotations

import os
import time

import numpy as np

from extract.networks.pixels import ReadyRows
from extract.settings import ExtractSettings


class StubNetwork:
    """Return each picture's means over a grid at every cut; `:map` cuts keep the grid."""

    precision = "float32"
    runtime = "stub"
    device = "cpu"
    float32_cuts = ""
    note = ""
    weights = "random:0"
    weights_sha256 = 64 * "0"
    versions = "stub"

    def __init__(self, cuts, seconds: float):
        self._seconds = seconds
        shapes = {"map": (4, 4, 3)}
        self.shapes = {cut.dataset: shapes.get(cut.pooling, (48,)) for cut in cuts}

    def submit(self, pictures):
        if self._seconds:
            time.sleep(self._seconds)
        n = len(pictures)
        cell = pictures.shape[1] // 4
        grid = pictures[:, : cell * 4, : cell * 4].reshape(n, 4, cell, 4, cell, 3)
        means = grid[:, :, :4, :, :4].mean(axis=(2, 4), dtype=np.float32)
        rows = {name: means.reshape(n, *shape) for name, shape in self.shapes.items()}
        return ReadyRows(rows)


def open_stub(
    settings: ExtractSettings,
    backbone,
    probe,
    *,
    allow_random,
    precision=None,
    runtime=None,
    float32_cuts=None,
):
    seconds = float(os.environ.get("STUB_SECONDS", "0"))
    return StubNetwork(settings.extract.cuts_of(backbone), seconds)
