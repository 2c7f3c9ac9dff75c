"""Read and decode some pictures into one array: the work of one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from extract.config.arrays import Pixels
from extract.errors import RejectedTile
from extract.pictures.decode import PICTURE, DecodeOptions, decode_tile, describe
from extract.pictures.image_folder import Images, PictureLocation
from extract.timing.clock import Clock


@dataclass(slots=True)
class Batch:
    """Decoded tiles, in the order of the table.

    Attributes
    ----------
    pictures : (n, size, size, 3) uint8 RGB, zeros for rejected tiles.
    facts : (n,) of `PICTURE`, statistics of each picture; zeros for rejected tiles.
    reasons : (n,), why the tile is rejected; empty where it is not.
    """

    pictures: Pixels
    facts: NDArray[np.void]
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class PictureSource:
    """Where pictures come from and how they are decoded; can be sent to another process."""

    images: Images
    options: DecodeOptions

    def read(
        self,
        locations: Sequence[PictureLocation],
        clock: Clock,
        into: Pixels | None = None,
    ) -> Batch:
        """Read and decode pictures; one that cannot be used is a row with its reason.

        Parameters
        ----------
        locations : (n,), from `Images.find`.
        clock : gets the seconds of reading and decoding.
        into : (n, size, size, 3) uint8, memory for the pictures; a new array by default.
        """
        n = len(locations)
        side = self.options.size
        pictures = np.empty((n, side, side, 3), np.uint8) if into is None else into
        batch = Batch(pictures, np.zeros(n, PICTURE), [""] * n)
        for i, location in enumerate(locations):
            try:
                with clock.time("read"):
                    data = self.images.read(location)
                with clock.time("decode"):
                    pictures[i], nodata = decode_tile(data, self.options)
                    batch.facts[i] = describe(pictures[i], n_bytes=len(data), nodata=nodata)
            except RejectedTile as reason:
                pictures[i] = 0
                batch.reasons[i] = str(reason)
        return batch
