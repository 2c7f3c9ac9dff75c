"""What stands at each place of a tile: its picture, and the map of a layer before it is pooled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.config.cuts import PIXELS, Cut, Pooling
from extract.errors import ExplainError, NoFeatureMapError
from extract.networks.pixels import resize
from extract.networks.registry import REGISTRY
from extract.settings import ExtractSettings
from extract.store.embeddings import Embeddings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import Tiles
from extract.timing.clock import Clock
from models.data.arrays import Ints
from models.data.design import features_path

Maps = NDArray[np.float32]  # (n_tiles, height, width, channels)
_BATCH = 16
_LEAST_COSINE = 0.99  # bfloat16 features of float32 maps reach 0.9999


class Places:
    """Pictures of tiles and their maps at one cut; the truncated network is built once, when it is first needed.

    Maps come from the features where these are maps; else the pictures are pushed through the network again up to the cut's
    layer, in float32, and what comes out has to be what the features hold.

    Parameters
    ----------
    cut : the cut whose layer's map is wanted, whatever its pooling.
    """

    def __init__(self, settings: ExtractSettings, tiles: Tiles, cut: Cut) -> None:
        self._settings = settings
        self._reader = TileReader(settings, tiles)
        self.cut = cut

    def pictures(self, rows: Ints) -> NDArray[np.uint8]:
        """Read pictures as the networks see them: (n, size, size, 3) RGB.

        Raises
        ------
        ExplainError : a picture that cannot be read any more.
        """
        clock = Clock()
        out = []
        for row in rows.tolist():
            batch = self._reader.read(range(row, row + 1), clock)
            if batch.reasons[0]:
                raise ExplainError(
                    f"row {row + 1} of the tile table: expected the picture that its features were made of, got: "
                    f"{batch.reasons[0]}. Put the picture back, or run `make features FRESH=1`."
                )
            out.append(batch.pictures)
        return np.concatenate(out)

    def maps(self, rows: Ints) -> Maps:
        """Return the map of each tile, in batches: (n, height, width, channels).

        Raises
        ------
        NoFeatureMapError : a layer without places, or vectors that were imported.
        ExplainError : other features than the network gives now.
        """
        if self.cut.pooling == "map":
            return np.concatenate([self._stored(row) for row in rows.tolist()]).astype(np.float32)
        if self.cut.backbone == PIXELS:
            return resize(self.pictures(rows), int(self.cut.layer)).astype(np.float32)
        maps = np.concatenate(list(self._run(rows)))
        if maps.ndim != 4:
            raise NoFeatureMapError(
                f"cut '{self.cut}': expected a layer whose output is a map, got vectors of {maps.shape[1]} values, "
                "which have no places. Explain a model on a convolution's cut."
            )
        self._check_same(maps, rows)
        return maps

    def _stored(self, row: int) -> NDArray[Any]:
        with Embeddings(features_path(self._settings.folder, self.cut.backbone)) as file:
            return file.read(self.cut.dataset, slice(row, row + 1))

    def _run(self, rows: Ints) -> Iterator[Maps]:
        """Push pictures through the network, each batch filled up so that one shape is compiled."""
        for start in range(0, len(rows), _BATCH):
            asked = rows[np.minimum(np.arange(start, start + _BATCH), len(rows) - 1)]
            n = min(_BATCH, len(rows) - start)
            pictures = self.pictures(asked[:n])
            full = pictures[np.minimum(np.arange(_BATCH), n - 1)]
            yield np.asarray(self._network.predict_on_batch(full), np.float32)[:n]

    @cached_property
    def _network(self) -> Any:
        """The network from the pictures to the cut's layer."""
        from extract.networks.backbones import build_network  # loads Keras

        backbone = self.cut.backbone
        with Embeddings(features_path(self._settings.folder, backbone)) as file:
            weights = str(file.attributes.get("weights", ""))
        if backbone not in REGISTRY:
            raise NoFeatureMapError(
                f"cut '{self.cut}': its vectors were imported, and no network here makes the places of a "
                "tile from its picture. Explain a model on another cut."
            )
        if not weights.startswith("random:"):
            weights = self._settings.extract.weights_of(backbone)
        return build_network(
            [Cut(backbone, self.cut.layer, "map")],
            size=self._settings.extract.size,
            weights=weights,
        ).model

    def _check_same(self, maps: Maps, rows: Ints) -> None:
        stored = (
            np.concatenate([self._stored(row) for row in rows.tolist()])
            .reshape(len(rows), -1)
            .astype(np.float64)
        )
        made = pool_maps(maps, self.cut.pooling).astype(np.float64)
        norms = np.linalg.norm(stored, axis=1) * np.linalg.norm(made, axis=1)
        cosine = (stored * made).sum(axis=1) / np.where(norms > 0, norms, 1)
        if (cosine[norms > 0] < _LEAST_COSINE).any():
            raise ExplainError(
                f"cut '{self.cut}': expected the embeddings that the features hold, got others from today's "
                f"pictures and weights (cosine {cosine[norms > 0].min():.3f}). Put back those that the features "
                "were made of, or run `make features FRESH=1`."
            )


def pool_maps(maps: Maps, pooling: Pooling) -> NDArray[np.float32]:
    """Pool maps as an extraction does: (n, height, width, channels) → (n, n_features) float32; `map` as `flat`."""
    if pooling == "avg":
        return maps.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    return maps.max(axis=(1, 2)) if pooling == "max" else maps.reshape(len(maps), -1)


def spread_sample(rows: Sequence[int] | Ints, n: int) -> Ints:
    """Return at most n of some rows, from the first to the last at even distances."""
    rows = np.asarray(rows, np.int64)
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(np.int64)]
