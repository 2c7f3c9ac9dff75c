"""From rows of the table to batches of pictures: read, decode, describe; every stage timed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from extract.pictures.archives import open_images
from extract.pictures.images import RejectedTile
from extract.pictures.pixels import PICTURE, Look, decode_tile, describe
from extract.settings import Settings
from extract.tiles import Tiles


@dataclass(slots=True)
class Clock:
    """Seconds by stage, summed over threads."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "decode", "forward", "write"), 0.0))

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start


@dataclass(slots=True)
class Batch:
    """Decoded tiles, in the order of the table.

    Attributes
    ----------
    pictures : (n, size, size, 3) uint8 RGB, zeros where there is a reason to reject the tile.
    facts : (n,) of `PICTURE`, what a picture tells without any network; zeros for rejected tiles.
    reasons : (n,), why the tile is rejected; empty where it is not.
    """

    pictures: NDArray[np.uint8]
    facts: NDArray[np.void]
    reasons: list[str]


class Reader:
    """Read any rows of the table; safe to call from several threads."""

    def __init__(self, settings: Settings, tiles: Tiles) -> None:
        self._images = open_images(settings.tiles)
        self._paths = tiles.path
        said = settings.tiles
        self._look = Look(size=settings.extract.size, max_pixels=said.max_pixels, scale=said.scale, nodata=said.nodata,
                          background=said.background)

    def read(self, rows: range, clock: Clock) -> Batch:
        """Read and decode some rows; a tile that cannot be used is a row with its reason."""
        side = self._look.size
        batch = Batch(np.zeros((len(rows), side, side, 3), np.uint8), np.zeros(len(rows), PICTURE), [""] * len(rows))
        for i, path in enumerate(self._paths.iloc[rows.start:rows.stop]):
            try:
                with clock.time("read"):
                    data = self._images.read(path)
                with clock.time("decode"):
                    batch.pictures[i], nodata = decode_tile(data, self._look)
                    batch.facts[i] = describe(batch.pictures[i], n_bytes=len(data), nodata=nodata)
            except RejectedTile as reason:
                batch.reasons[i] = str(reason)
        return batch
