"""From rows of the table to pictures: which they are, and reading them in this process."""

from __future__ import annotations

from extract.clock import Clock
from extract.pictures.archives import open_images
from extract.pictures.images import Place
from extract.pictures.pixels import Look
from extract.pictures.source import Batch, Source
from extract.settings import Settings
from extract.tiles import Tiles


class Reader:
    """Read any rows of the table; safe to call from several threads.

    Attributes
    ----------
    source : the images, and how they become colours.
    """

    def __init__(self, settings: Settings, tiles: Tiles) -> None:
        said = settings.tiles
        look = Look(size=settings.extract.size, max_pixels=said.max_pixels, scale=said.scale, nodata=said.nodata,
                    background=said.background)
        self.source = Source(open_images(said), look)
        self._paths = tiles.path.array

    def find(self, rows: range) -> list[Place]:
        """Say where the pictures of some rows lie."""
        return [self.source.images.find(path) for path in self._paths[rows.start:rows.stop].tolist()]

    def read(self, rows: range, clock: Clock) -> Batch:
        """Read and decode some rows; a tile that cannot be used is a row with its reason."""
        return self.source.read(self.find(rows), clock)
