"""From rows of the table to pictures: which they are, and reading them in this process."""

from __future__ import annotations

from collections.abc import Sequence

from extract.pictures.archives import open_images
from extract.pictures.decode import DecodeOptions
from extract.pictures.image_folder import PictureLocation
from extract.pictures.picture_source import Batch, PictureSource
from extract.settings import ExtractSettings
from extract.tables.tile_table import Tiles
from extract.timing.clock import Clock


class TileReader:
    """Read any rows of the table; safe to call from several threads.

    Attributes
    ----------
    source : the images, and how they become colours.
    """

    def __init__(self, settings: ExtractSettings, tiles: Tiles) -> None:
        said = settings.tiles
        look = DecodeOptions(
            size=settings.extract.size,
            max_pixels=said.max_pixels,
            scale=said.scales or said.scale,
            bands=said.bands,
            nodata=said.nodata,
            background=said.background,
        )
        self.source = PictureSource(open_images(said), look)
        self._paths = tiles.path.array

    def find(self, rows: Sequence[int]) -> list[PictureLocation]:
        """Describe where the pictures of some rows lie."""
        return [self.source.images.find(path) for path in self._paths.take(rows).tolist()]

    def read(self, rows: Sequence[int], clock: Clock) -> Batch:
        """Read and decode some rows; a tile that cannot be used is a row with its reason."""
        return self.source.read(self.find(rows), clock)
