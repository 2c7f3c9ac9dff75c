"""The tiles of a place and their features, checked against what a kept model was fitted on.

Tables and features are read a piece at a time. What grows with the tiles is a byte each, whether a
tile was accepted, and 8 bytes each where ids have to be checked without features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Bools
from extract.config.cuts import PIXELS, Cut
from extract.errors import PlaceError, TableError
from extract.files.hashing import hash_file, hash_text
from extract.pictures.archives import open_images
from extract.settings import TargetsSection
from extract.store.embeddings import Embeddings
from extract.store.recipes import IMPORTED
from extract.tables.tile_table import Tiles, stream_tiles
from models.data.features import Features, open_matrix
from models.data.place_settings import PlaceSettings
from models.store.feature_origin import read_look
from models.store.kept_models import KeptModel

PIECE_TILES = 65_536
_PIECE_BYTES = 128 << 20  # of the features of a piece in float32
_REMEDY = "Remove them, and such as the model needs are made; or fit the models on such as these."
_HASH_TILES = 16_384  # of the table at once, where only its hash is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The tiles of a place, in the order of its table.

    Attributes
    ----------
    settings : of the place; None where there are features alone.
    features : open files that state which tiles were rejected; the first has the model's cut.
    embedding : (n_tiles, d), rejected tiles too, on disk; None where the model is fed no cut.
    is_ok : (n_tiles,), whether a tile was accepted; None where there are no features.
    is_training : whether these are the tiles that the model was fitted on.
    """

    settings: PlaceSettings | None
    features: list[Embeddings]
    embedding: Features | None
    is_ok: Bools | None
    is_training: bool

    @property
    def has_areas(self) -> bool:
        """Whether tiles lie in areas that are more than themselves."""
        return self.settings is not None and self.settings.tiles.area != self.settings.tiles.id

    def pieces(self) -> Iterator[tuple[slice, Tiles]]:
        """Yield the rows of each piece of the table, and its tiles.

        Raises
        ------
        TableError : a table that cannot be used; ids that are not those of the features.
        """
        if self.settings is None:
            yield from self._pieces_of_features()
            return
        hashes = []
        start = 0
        for tiles in stream_tiles(self.settings, n_rows=self.piece_tiles):
            rows = slice(start, start + len(tiles))
            for embeddings in self.features:
                _check_same_ids(embeddings, tiles, rows)
            if not self.features:
                ids = tiles.id.astype(str).to_numpy(object)
                hashes.append(pd.util.hash_array(ids, categorize=False))
            yield rows, tiles
            start = rows.stop
        for embeddings in self.features:
            if len(embeddings) != start:
                raise _other_tiles(embeddings, start)
        if not hashes:
            return
        distinct = np.unique(np.concatenate(hashes))
        if len(distinct) < start:
            raise TableError(
                f"table {self.settings.tiles.source}: an id stands in more than one row. Every "
                "tile needs an id of its own."
            )

    def _pieces_of_features(self) -> Iterator[tuple[slice, Tiles]]:
        embeddings = self.features[0]
        n_tiles = len(embeddings)
        for start in range(0, n_tiles, self.piece_tiles):
            stop = min(start + self.piece_tiles, n_tiles)
            rows = slice(start, stop)
            ids = pd.Series(embeddings.read_ids(rows))
            yield rows, _tiles_without_table(ids)

    @property
    def piece_tiles(self) -> int:
        """Tiles of a piece, as many as are predicted at once."""
        n_features = 1
        if self.embedding is not None:
            n_features = max(1, self.embedding.shape[1])
        n_tiles = _PIECE_BYTES // (4 * n_features)
        return max(256, min(PIECE_TILES, n_tiles))

    def is_usable(self, rows: slice) -> Bools:
        """Return which rows were accepted: (n_rows,)."""
        if self.is_ok is None:
            return np.ones(rows.stop - rows.start, dtype=bool)
        return self.is_ok[rows]

    def read_pictures(self, rows: slice) -> NDArray[np.void] | None:
        """Read file sizes and colours of some rows; None where no features have them."""
        for embeddings in self.features:
            facts = embeddings.read_pictures(rows)
            if facts is not None:
                return facts
        return None


def _tiles_without_table(ids: pd.Series[Any]) -> Tiles:
    empty = pd.Series("", index=ids.index)
    nothing = pd.DataFrame(index=ids.index)
    return Tiles(
        id=ids,
        path=empty,
        area=empty,
        xy=None,
        target_names=[],
        targets=nothing,
        classes=nothing,
        groups=nothing,
    )


def _check_same_ids(embeddings: Embeddings, tiles: Tiles, rows: slice) -> None:
    ids = embeddings.read_ids(rows).astype(str)
    if not np.array_equal(ids, tiles.id.to_numpy().astype(str)):
        raise _other_tiles(embeddings, rows.stop)


def _other_tiles(embeddings: Embeddings, n_rows: int) -> TableError:
    return TableError(
        f"{embeddings.path}: its {len(embeddings)} tiles are not those of the table, in its order "
        f"(they differ within the first {n_rows} rows). Restore the table, or remove the features "
        "of this place: they are made anew."
    )


def check_place(settings: PlaceSettings, kept: KeptModel) -> None:
    """Check that a place's settings name what the model is fed.

    Raises
    ------
    PlaceError : a missing group column, coordinates in another CRS.
    """
    cell = kept.cell
    needed = kept.facts["feed"].get("group_columns", [])
    lost = [name for name in needed if name not in settings.tiles.groups]
    if lost:
        raise PlaceError(
            f"model {cell.model!r} is fed the columns {', '.join(needed)}, and the place has no "
            f"{', '.join(lost)}: name them in its [tiles] groups, or ask for another --model."
        )
    theirs = kept.facts["settings"]["tiles"].get("crs")
    ours = settings.tiles.crs
    if cell.spec.feed == "place" and theirs and ours and theirs != ours:
        raise PlaceError(
            f"model {cell.model!r} was fitted on places in {theirs}, and those here are in {ours}. "
            "Bring the coordinates of the table there first."
        )


def list_features(settings: PlaceSettings, kept: KeptModel) -> list[Path]:
    """List the features that a model is fed, or by which tiles are left out.

    They are those of its cut; for baselines those that exist. A baseline that is fed file sizes and
    colours needs some: where there are none, those of `pixels`.
    """
    folder = settings.folder / "features"
    cell = kept.cell
    if kept.parts:
        return [folder / f"{backbone}.h5" for backbone in _name_backbones(kept)]
    paths = [folder / f"{name}.h5" for name in settings.extract.backbones]
    found = [path for path in paths if path.is_file()]
    if not found and cell.spec.feed == "metadata":
        return [folder / f"{PIXELS}.h5"]
    return found


def _name_backbones(kept: KeptModel) -> list[str]:
    """Return the backbones of a model's cuts, each once."""
    return list(dict.fromkeys(part.backbone for part in kept.parts))


def _pair_parts(features: list[Embeddings], kept: KeptModel) -> list[tuple[Embeddings, Cut]]:
    """Return each cut of a model with the features that have it.

    Parameters
    ----------
    features : those of each of the model's backbones, in their order.
    """
    by_backbone = dict(zip(_name_backbones(kept), features, strict=True))
    return [(by_backbone[part.backbone], part) for part in kept.parts]


def open_place(source: PlaceSettings | Path, kept: KeptModel, stack: ExitStack) -> Place:
    """Open a place's features, checked against what the model was fitted on.

    Parameters
    ----------
    source : settings of the place; or features alone, the file of the backbone or its folder.
    stack : closes the features.

    Raises
    ------
    PlaceError : other weights, pictures that were read otherwise, a missing group column, another
        CRS; the model needs more than features.
    ValueError : features that cannot be used.
    """
    features = []
    for path in _choose_features(source, kept):
        features.append(stack.enter_context(Embeddings(path)))
        _check_look(path, kept)
    _check_parts(features, kept)
    is_ok = None
    if features:
        is_ok = np.logical_and.reduce([embeddings.is_ok for embeddings in features])
    embedding = None
    if kept.parts:
        pairs = _pair_parts(features, kept)
        sources = [(embeddings.path, part.dataset) for embeddings, part in pairs]
        embedding = Features(open_matrix(sources, None))
    settings = None
    if not isinstance(source, Path):
        groups = kept.facts["feed"].get("group_columns", [])
        tiles = source.tiles.model_copy(update={"groups": groups})
        settings = source.model_copy(update={"tiles": tiles, "targets": TargetsSection()})
    return Place(
        settings=settings,
        features=features,
        embedding=embedding,
        is_ok=is_ok,
        is_training=_is_training(settings, features, kept),
    )


def _choose_features(source: PlaceSettings | Path, kept: KeptModel) -> list[Path]:
    if not isinstance(source, Path):
        check_place(source, kept)
        return list_features(source, kept)
    cell = kept.cell
    if not isinstance(cell.cut, Cut) or cell.spec.groups or cell.spec.area:
        raise PlaceError(
            f"model {str(cell.spec)!r} is fed more than the embedding of a tile, and features "
            "alone "
            "have no areas, coordinates or descriptors. Name the settings of the place with "
            "--tiles."
        )
    backbones = _name_backbones(kept)
    if source.is_dir():
        return [source / f"{backbone}.h5" for backbone in backbones]
    if len(backbones) > 1:
        raise PlaceError(
            f"{source}: model {cell.model!r} is fed the features of {' and '.join(backbones)}. "
            "Name the folder that has them."
        )
    return [source]


def _check_parts(features: list[Embeddings], kept: KeptModel) -> None:
    """Check that features have the model's cuts, by the weights that it was fitted on."""
    if not kept.parts:
        return
    stated = str(kept.facts["training"].get("weights_sha256")).split(" ")
    for (embeddings, part), expected in zip(_pair_parts(features, kept), stated, strict=True):
        path = embeddings.path
        if part.dataset not in embeddings.cuts:
            raise PlaceError(
                f"{path}: no cut {part.dataset!r}; it has {', '.join(embeddings.cuts)}. {_REMEDY}"
            )
        found = str(embeddings.attributes.get("weights_sha256"))
        if found != expected and embeddings.attributes.get("weights") == IMPORTED:
            raise PlaceError(
                f"{path}: imported as version {embeddings.attributes.get('imported_version')!r}, "
                "and the model was fitted on another version, or before versions were stated. "
                "Import both with the same --version."
            )
        if found != expected:
            raise PlaceError(
                f"{path}: made by other weights than the model was fitted on (expected SHA-256 "
                f"{expected}, got {found}; it counts all layers up to the cuts that are asked "
                f"for). {_REMEDY}"
            )


def _check_look(path: Path, kept: KeptModel) -> None:
    """Check that pictures were read as those that the model was fitted on."""
    look = read_look(path)
    for name, value in kept.facts["look"].items():
        if look.get(name) != value:
            raise PlaceError(
                f"{path}: made with {name} = {look.get(name)!r}, and the model was fitted on "
                f"{name} = {value!r}. {_REMEDY}"
            )


def hash_place(place: Place, kept: KeptModel) -> str:
    """Return a hash of all that the predictions depend on."""
    inputs: list[Any] = [
        kept.facts["key"],
        kept.facts["files"],
        str(kept.cell),
        _hash_features(place.features, kept),
        place.piece_tiles,
    ]
    if place.settings is not None:
        tiles = place.settings.tiles
        listed = hash_file(tiles.table) if tiles.table else sorted(open_images(tiles).names())
        inputs += [tiles.model_dump_json(), listed]
    return hash_text(json.dumps(inputs, sort_keys=True))


def _hash_features(features: list[Embeddings], kept: KeptModel) -> list[str]:
    if kept.parts:
        pairs = _pair_parts(features, kept)
        return [embeddings.checksum(part.dataset) for embeddings, part in pairs]
    # of ids, statuses and pictures
    return [str(embeddings.attributes.get("sha256", "")) for embeddings in features]


def _is_training(
    settings: PlaceSettings | None, features: list[Embeddings], kept: KeptModel
) -> bool:
    stated = kept.facts["training"]
    if kept.parts:
        return " ".join(_hash_features(features, kept)) == stated.get("features_sha256")
    tiles_sha256 = stated.get("tiles_sha256")
    if features or settings is None:
        return any(one.attributes.get("tiles_sha256") == tiles_sha256 for one in features)
    return bool(hash_tiles(settings) == tiles_sha256)


def hash_tiles(settings: PlaceSettings) -> str:
    """Return what `Tiles.sha256` is of the whole table, with a piece of it in memory at a time."""
    digest = hashlib.sha256()
    for column in ("id", "path"):
        separator = ""
        for tiles in stream_tiles(settings, n_rows=_HASH_TILES):
            values = map(str, getattr(tiles, column).tolist())
            digest.update((separator + "\0".join(values)).encode())
            separator = "\0"
        digest.update(b"\1")
    return digest.hexdigest()
