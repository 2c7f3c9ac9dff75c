"""Look at what a run would stumble over, in seconds, before anybody pays for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from extract.config.cuts import PIXELS
from extract.errors import ImageSourceError
from extract.networks.known_layers import check_layer, list_known
from extract.networks.registry import REGISTRY, find_backbone
from extract.pictures.archives import open_images
from extract.store.embeddings import Embeddings
from extract.tables.tile_table import Tiles
from models.auditing.places import overlapping
from models.data.fold_file import assign_split, build_split
from reports.settings import ReportSettings

_SAMPLE = 256  # tiles whose pictures are looked for
_SMALLEST = 32  # side of pictures that every known network takes [pixels]


def list_notes(settings: ReportSettings, tiles: Tiles) -> Iterator[str]:
    """Check pictures, networks and splits; yield what deserves a look.

    Raises
    ------
    ImageSourceError : images that are not there, or hold no picture that the table names.
    NetworkError : a backbone or a layer that is not there.
    ValueError : a split that these tiles do not allow.
    """
    missing = find_missing(settings)
    if missing:
        yield from look_for_pictures(settings, tiles)
    yield from check_splits(settings, tiles)
    check_layers(settings, missing)


def find_missing(settings: ReportSettings) -> dict[str, list[str]]:
    """Return the layers of each network that have no features yet.

    Raises
    ------
    NetworkError : a backbone that is neither a network nor was imported.
    """
    missing = {}
    for backbone in settings.extract.backbones:
        path = settings.folder / "features" / f"{backbone}.h5"
        there: list[str] = []
        if path.is_file():
            with Embeddings(path) as reader:
                there = reader.cuts
        if backbone not in REGISTRY and backbone != PIXELS and not there:
            find_backbone(backbone)
        cuts = settings.extract.cuts_of(backbone)
        layers = [cut.layer for cut in cuts if cut.dataset not in there]
        if layers:
            missing[backbone] = layers
    return missing


def look_for_pictures(settings: ReportSettings, tiles: Tiles) -> Iterator[str]:
    """Look for the pictures of some rows; note what is missing, refuse where all are."""
    images = open_images(settings.tiles)
    n_looked = min(_SAMPLE, len(tiles))
    rows = np.linspace(0, len(tiles) - 1, n_looked).astype(np.int64)
    paths = [str(path) for path in tiles.path.iloc[rows]]
    lost = [path for path in paths if not images.stamp(path)]
    if len(lost) == n_looked:
        there = next(images.names(), None)
        example = f"it holds {there!r}" if there else "it is empty"
        raise ImageSourceError(
            f"images {settings.tiles.images}: none of {n_looked} pictures that were looked for is "
            f"there, as {lost[0]!r}; {example}. Mend [tiles] images or path."
        )
    if lost:
        yield f"{len(lost)} of {n_looked} pictures that were looked for are missing, as {lost[0]!r}"


def check_splits(settings: ReportSettings, tiles: Tiles) -> Iterator[str]:
    """Make the folds of every split in memory; note tiles that show ground of another fold."""
    asked = settings.models
    grid = settings.tiles.grid
    size_m = settings.tiles.size_m
    if size_m is None and grid is not None:
        size_m = grid.size_m
    for split in asked.splits:
        fold = assign_split(split, tiles, asked.fold_options)
        build_split(split, fold, tiles, asked.fold_options)
        if split != "block" or size_m is None or tiles.xy is None:
            continue
        diagonal = math.ceil(size_m * math.sqrt(2))
        if asked.buffer_m >= diagonal:
            continue
        n_overlapping = int(overlapping(tiles.xy, fold, size_m).sum())
        if n_overlapping:
            yield (
                f"{n_overlapping} tiles of {size_m:g} m overlap a tile of another fold of the "
                f"split 'block': set buffer_m = {diagonal} in [models]"
            )


def check_layers(settings: ReportSettings, missing: dict[str, list[str]]) -> None:
    """Refuse a layer that its network does not have.

    Names of the commonest networks are known; others are built, without weights of their own, as
    they are where the side of the pictures is small enough for a network to refuse it.
    """
    size = settings.extract.size
    for backbone, layers in missing.items():
        known = list_known(backbone)
        if backbone == PIXELS:
            continue
        if not known or size < _SMALLEST:
            from extract.networks.backbones import needs_top  # loads Keras

            needs_top(backbone, layers, size=size)
            continue
        for layer in layers:
            check_layer(backbone, layer, known)
