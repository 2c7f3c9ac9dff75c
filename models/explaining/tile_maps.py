"""What stands at each place of a tile: its picture, and the map of a layer before pooling."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from extract.config.arrays import Array, Float32s, Ints, Pixels
from extract.config.cuts import JOINED, PIXELS, Cut, Pooling
from extract.errors import ExplainError, NoFeatureMapError
from extract.networks.pixels import resize
from extract.networks.registry import REGISTRY
from extract.settings import ExtractSettings
from extract.store.embeddings import Embeddings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import Tiles
from extract.timing.clock import Clock
from models.data.cut_data import features_path

Maps = Float32s  # (n_tiles, height, width, channels)
_BATCH = 16
_LEAST_COSINE = 0.99  # bfloat16 features of float32 maps reach 0.9999


class TileMaps:
    """Pictures of tiles and their maps at one cut.

    Maps come from the features where these are maps; else the pictures are pushed through the
    network again up to the cut's layer, in float32, and the result has to be what the features
    hold. That network is built once, when it is first needed.

    Parameters
    ----------
    cut : whose layer's map is wanted, whatever its pooling.
    """

    def __init__(self, settings: ExtractSettings, tiles: Tiles, cut: Cut) -> None:
        self._settings = settings
        self._reader = TileReader(settings, tiles)
        self.cut = cut

    def read_pictures(self, rows: Ints) -> Pixels:
        """Read pictures as the networks see them: (n, size, size, 3) RGB.

        Raises
        ------
        ExplainError : a picture that cannot be read any more.
        """
        clock = Clock()
        pictures = []
        for row in rows.tolist():
            batch = self._reader.read(range(row, row + 1), clock)
            (reason,) = batch.reasons
            if reason:
                raise ExplainError(
                    f"row {row + 1} of the tile table: expected the picture that its features were "
                    f"made of, got: {reason}. Put the picture back, or run "
                    "`make features FRESH=1`."
                )
            pictures.append(batch.pictures)
        return np.concatenate(pictures)

    def read_maps(self, rows: Ints) -> Maps:
        """Return the map of each tile: (n, height, width, channels).

        Raises
        ------
        NoFeatureMapError : a layer without places, or vectors that were imported.
        ExplainError : other features than the network gives now.
        """
        if self.cut.backbone == JOINED:
            raise NoFeatureMapError(
                f"cut '{self.cut}': cuts side by side, whose maps have no places in common. "
                "Explain a model on one of them."
            )
        if self.cut.pooling == "map":
            stored = self._read_stored(rows)
            return stored.astype(np.float32)
        pictures = self.read_pictures(rows)
        if self.cut.backbone == PIXELS:
            resized = resize(pictures, int(self.cut.layer))
            return resized.astype(np.float32)
        outputs = self._network.predict(pictures, batch_size=_BATCH, verbose=0)
        maps: Maps = outputs.astype(np.float32)
        if maps.ndim != 4:
            raise NoFeatureMapError(
                f"cut '{self.cut}': expected a layer whose output is a map, got vectors of "
                f"{maps.shape[1]} values, which have no places. Explain a model on a convolution's "
                "cut."
            )
        self._check_same(maps, rows)
        return maps

    def _read_stored(self, rows: Ints) -> Array:
        path = features_path(self._settings.folder, self.cut.backbone)
        with Embeddings(path) as file:
            read = [file.read(self.cut.dataset, slice(row, row + 1)) for row in rows.tolist()]
        return np.concatenate(read)

    @cached_property
    def _network(self) -> Any:
        """The network from the pictures to the cut's layer."""
        from extract.networks.backbones import build_network  # loads Keras

        backbone = self.cut.backbone
        if backbone not in REGISTRY:
            raise NoFeatureMapError(
                f"cut '{self.cut}': its vectors were imported, and no network here makes the places"
                " of a tile from its picture. Explain a model on another cut."
            )
        path = features_path(self._settings.folder, backbone)
        with Embeddings(path) as file:
            weights = str(file.attributes.get("weights", ""))
        extract = self._settings.extract
        if not weights.startswith("random:"):
            weights = extract.weights_of(backbone)
        cut = Cut(backbone, self.cut.layer, "map")
        network = build_network([cut], size=extract.size, weights=weights)
        return network.model

    def _check_same(self, maps: Maps, rows: Ints) -> None:
        stored = self._read_stored(rows).astype(np.float64)
        stored = stored.reshape(len(rows), -1)
        pooled = pool_maps(maps, self.cut.pooling)
        made = pooled.astype(np.float64)
        norms = np.linalg.norm(stored, axis=1) * np.linalg.norm(made, axis=1)
        products = stored * made
        products = products.sum(axis=1)
        cosine = np.ones(len(rows))
        np.divide(products, norms, out=cosine, where=norms > 0)
        least = cosine.min()
        if least < _LEAST_COSINE:
            raise ExplainError(
                f"cut '{self.cut}': expected the embeddings that the features hold, got others "
                f"from today's pictures and weights (cosine {least:.3f}). Put back those "
                "that the features were made of, or run `make features FRESH=1`."
            )


def pool_maps(maps: Maps, pooling: Pooling) -> Float32s:
    """Pool maps as an extraction does: (n, n_features) float32; `map` as `flat`."""
    if pooling == "avg":
        means = maps.mean(axis=(1, 2), dtype=np.float64)
        return means.astype(np.float32)
    if pooling == "max":
        return maps.max(axis=(1, 2))
    return maps.reshape(len(maps), -1)


def spread_sample(rows: Ints, n: int) -> Ints:
    """Return at most n of some rows, from the first to the last at even distances."""
    n_rows = len(rows)
    places = np.linspace(0, n_rows - 1, min(n, n_rows))
    return rows[places.astype(np.int64)]
