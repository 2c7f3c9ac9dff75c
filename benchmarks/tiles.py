"""The tiles and settings that every measurement uses: a made city's pictures, as often as a
measurement needs them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.city.sample import write_city
from extract.settings import ExtractSettings, read_settings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import read_tiles
from extract.timing.clock import Clock

CUTS = {
    "vgg16": ("block2_pool", "block3_pool", "block4_pool", "block5_pool"),
    "resnet50v2": ("conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "post_relu"),
    "mobilenetv2": (
        "block_3_expand_relu",
        "block_6_expand_relu",
        "block_13_expand_relu",
        "out_relu",
    ),
}
_N_PICTURES = 96
_SETTINGS = """
name = "bench"
out = "out-{stem}"
[tiles]
table = "{stem}.csv"
images = "."
path = "{{picture}}"
area = "area"
[targets]
columns = ["income"]
[extract]
cuts = {cuts}
"""


class Site:
    """A folder with made pictures, in which settings for any number of tiles can be written.

    Parameters
    ----------
    size, batch, precision : side of the pictures [pixels], tiles a pass, and what the networks
        compute in.
    backbones : the networks to measure.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size: int = 224,
        batch: int = 32,
        precision: str = "auto",
        backbones: Sequence[str] = tuple(CUTS),
    ) -> None:
        self.folder, self.size, self.batch, self.precision, self.backbones = (
            folder,
            size,
            batch,
            precision,
            backbones,
        )
        write_city(folder / "city", n_tiles=_N_PICTURES, n_areas=20)
        self.pictures = sorted((folder / "city").rglob("*.png"))

    def settings(
        self, *backbones: str, n_tiles: int, layers: int = 4, **extract: str | int
    ) -> ExtractSettings:
        """Write a table of `n_tiles` rows and settings that cut each backbone at its deepest
        `layers` layers.
        """
        names = [
            str(self.pictures[i % len(self.pictures)].relative_to(self.folder))
            for i in range(n_tiles)
        ]
        table = {
            "id": range(n_tiles),
            "picture": names,
            "area": np.arange(n_tiles) // 4,
            "income": 0.0,
        }
        stem = f"{'-'.join(backbones)}-{n_tiles}-{layers}"
        pd.DataFrame(table).to_csv(self.folder / f"{stem}.csv", index=False)
        cuts = [
            f"{backbone}/{layer}:avg"
            for backbone in backbones
            for layer in CUTS[backbone][-layers:]
        ]
        values = {
            "weights": "random:0",
            "size": self.size,
            "batch": self.batch,
            "precision": self.precision,
            **extract,
        }
        keys = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
        text = _SETTINGS.format(stem=stem, cuts=json.dumps(cuts)) + keys + "\n"
        path = self.folder / f"{stem}.toml"
        path.write_text(text)
        return read_settings(path, ExtractSettings)

    def probe(self, settings: ExtractSettings) -> NDArray[np.uint8]:
        """Read one batch: (batch, size, size, 3)."""
        return (
            TileReader(settings, read_tiles(settings))
            .read(range(settings.extract.batch), Clock())
            .pictures
        )
