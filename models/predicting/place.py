"""The tiles of a place that a kept model is asked about, checked against what it was fitted on.

No table and no features are in memory but those of a part. What grows with the tiles is a byte each, whether it was accepted,
and for `@area` models, whose parts are whole areas, the order of the rows by area: 12 bytes each, 28 while it is found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from extract.config.cuts import PIXELS, Cut
from extract.errors import PlaceError
from extract.pictures.archives import open_images
from extract.store.embeddings import Embeddings
from models.data.arrays import Ints
from models.data.features import Features, OnDisk
from models.predicting.batches import Parts, cut_parts
from models.predicting.place_settings import PlaceSettings
from models.predicting.place_table import BareTable, CopiedTable, PlaceTable, copy_table, hash_tiles
from models.store.kept_models import KeptModel
from models.store.licences import read_look
from models.store.runs import hash_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The tiles of a place, and their features on disk.

    Attributes
    ----------
    settings : of the place; None where there are features alone. table : its rows.
    features : files that are open, which say what was rejected; the first has the model's cut, if it is fed one.
    embedding : (n_tiles, d), rejected rows too, none of it in memory; d is 0 where no cut is fed.
    is_ok : (n_tiles,), whether a tile was accepted. is_training : the tiles are those that the model was fitted on.
    parts : in which the tiles are predicted.
    """

    settings: PlaceSettings | None
    table: PlaceTable
    features: list[Embeddings]
    embedding: Features
    is_ok: NDArray[np.bool_]
    is_training: bool
    parts: Parts

    @property
    def has_areas(self) -> bool:
        """Return whether tiles lie in areas that are more than themselves."""
        return self.settings is not None and self.settings.tiles.area != self.settings.tiles.id

    def read_pictures(self, rows: Ints) -> NDArray[np.void] | None:
        """Read what pictures tell without a network, of some rows, (n,) increasing; None where no features hold it."""
        for one in self.features:
            facts = one.read_pictures(slice(int(rows[0]), int(rows[-1]) + 1))
            if facts is not None:
                return facts[rows - rows[0]]
        return None


def check_place(settings: PlaceSettings, kept: KeptModel) -> None:
    """Check that a place's settings name what the model is fed.

    Raises
    ------
    PlaceError : a missing group column, coordinates in another CRS.
    """
    facts = kept.facts
    cell = kept.cell
    needed = facts["feed"].get("group_columns", [])
    lost = [name for name in needed if name not in settings.tiles.groups]
    if lost:
        raise PlaceError(
            f"model {cell.model!r} is fed the columns {', '.join(needed)}, and the place has no {', '.join(lost)}: "
            "name them in its [tiles] groups, or ask for another --model."
        )
    theirs = facts["settings"]["tiles"].get("crs")
    ours = settings.tiles.crs
    if cell.spec.feed == "place" and theirs and ours and theirs != ours:
        raise PlaceError(
            f"model {cell.model!r} knows places in {theirs}, and those here are in {ours}. Bring the coordinates of "
            "the table there first."
        )


def name_features(settings: PlaceSettings, kept: KeptModel) -> list[Path]:
    """Name the features that a model is fed, or by which tiles are left out.

    They are those of its cut; for baselines those that are there. One that is fed what pictures tell without a network needs
    some: where there are none, those of `pixels`.
    """
    folder = settings.folder / "features"
    if isinstance(kept.cell.cut, Cut):
        return [folder / f"{kept.cell.cut.backbone}.h5"]
    there = [
        path for name in settings.extract.backbones if (path := folder / f"{name}.h5").is_file()
    ]
    return there or ([folder / f"{PIXELS}.h5"] if kept.cell.spec.feed == "metadata" else [])


def key_place(source: PlaceSettings | Path, kept: KeptModel) -> str:
    """Return a hash of all that the predictions depend on; raises as `open_place`."""
    with ExitStack() as stack:
        features = _open_features(source, kept, stack)
        says: list[Any] = [
            kept.facts["key"],
            kept.facts["files"],
            str(kept.cell),
            _hash_features(features, kept),
        ]
    if not isinstance(source, Path):
        table = source.tiles.table
        listed = hash_file(table) if table else sorted(open_images(source.tiles).names())
        says += [source.tiles.model_dump_json(), listed]
    return hashlib.sha256(json.dumps(says, sort_keys=True).encode()).hexdigest()


def open_place(source: PlaceSettings | Path, kept: KeptModel, folder: Path) -> Place:
    """Open a place's table and its features, checked against what the model was fitted on.

    Parameters
    ----------
    source : settings of the place; or features alone, the file of the backbone or its folder.
    folder : where the table is copied to, if it is not there yet.

    Raises
    ------
    PlaceError : other weights or pictures made otherwise, a missing group column, another CRS; more is needed than features.
    ValueError : a table or features that cannot be used.
    """
    features = _open_features(source, kept, ExitStack())
    table: PlaceTable
    if isinstance(source, Path):
        table = BareTable(features[0])
    else:
        groups = kept.facts["feed"].get("group_columns", [])
        source = source.model_copy(
            update={"tiles": source.tiles.model_copy(update={"groups": groups})}
        )
        if not (folder / "table.parquet").is_file():
            copy_table(source, folder / "table.parquet", features)
        table = CopiedTable(folder / "table.parquet")
    is_ok = (
        np.logical_and.reduce([one.is_ok for one in features])
        if features
        else np.ones(len(table), dtype=bool)
    )
    embedding = Features(np.zeros((len(table), 0), np.float32))
    if isinstance(kept.cell.cut, Cut):
        embedding = Features(OnDisk(features[0].path, kept.cell.cut.dataset, None))
    parts = cut_parts(table, kept.cell, embedding.shape[1])
    return Place(
        settings=None if isinstance(source, Path) else source,
        table=table,
        features=features,
        embedding=embedding,
        is_ok=is_ok,
        is_training=_is_training(source, features, kept),
        parts=parts,
    )


def _open_features(
    source: PlaceSettings | Path, kept: KeptModel, stack: ExitStack
) -> list[Embeddings]:
    """Open and check the features of a place; the caller's stack closes them."""
    cell = kept.cell
    if isinstance(source, Path):
        if not isinstance(cell.cut, Cut) or cell.spec.groups or cell.spec.area:
            raise PlaceError(
                f"model {str(cell.spec)!r} is fed more than the embedding of a tile, and features alone have no "
                "areas, coordinates or descriptors. Name the settings of the place with --tiles."
            )
        paths = [source / f"{cell.cut.backbone}.h5" if source.is_dir() else source]
    else:
        check_place(source, kept)
        paths = name_features(source, kept)
    features = [stack.enter_context(Embeddings(path)) for path in paths]
    for one in features:
        _check_features(one, kept)
    return features


def _check_features(features: Embeddings, kept: KeptModel) -> None:
    path = features.path
    remedy = (
        "Remove them, and such as the model needs are made; or fit the models on such as these."
    )
    if isinstance(kept.cell.cut, Cut):
        dataset = kept.cell.cut.dataset
        if dataset not in features.cuts:
            raise PlaceError(
                f"{path}: no cut {dataset!r}; it has {', '.join(features.cuts)}. {remedy}"
            )
        found = features.attributes.get("weights_sha256")
        stated = kept.facts["training"].get("weights_sha256")
        if found != stated:
            raise PlaceError(
                f"{path}: made by other weights than the model was fitted on (expected SHA-256 {stated}, got "
                f"{found}; it counts all layers up to the cuts that are asked for). {remedy}"
            )
    look = read_look(path)
    for name, value in kept.facts["look"].items():
        if look.get(name) != value:
            raise PlaceError(
                f"{path}: made with {name} = {look.get(name)!r}, and the model was fitted on {name} = {value!r}. "
                f"{remedy}"
            )


def _hash_features(features: Sequence[Embeddings], kept: KeptModel) -> list[str]:
    if isinstance(kept.cell.cut, Cut):
        return [features[0].checksum(kept.cell.cut.dataset)]
    return [
        str(one.attributes.get("sha256", "")) for one in features
    ]  # of ids, statuses and pictures


def _is_training(
    source: PlaceSettings | Path, features: Sequence[Embeddings], kept: KeptModel
) -> bool:
    stated = kept.facts["training"]
    if isinstance(kept.cell.cut, Cut):
        return bool(_hash_features(features, kept) == [stated.get("features_sha256")])
    if features or isinstance(source, Path):
        return any(
            one.attributes.get("tiles_sha256") == stated.get("tiles_sha256") for one in features
        )
    return bool(hash_tiles(source) == stated.get("tiles_sha256"))
