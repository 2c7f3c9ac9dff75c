"""Predict the tiles of a place by a kept model.

The table is predicted piece by piece, each on disk before the next; a killed prediction goes on
with the missing pieces. `models.predicting.write_predictions` then joins them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.config.arrays import Bools, Floats, Ints
from extract.errors import PlaceError
from extract.files.atomic import write_atomically
from extract.files.locks import locked, locked_to_read
from extract.tables.tile_table import Tiles
from models.data.cut_data import CutData
from models.data.design import feed_rows
from models.data.features import Features
from models.data.place_settings import PlaceSettings
from models.data.pooling import pool_rows
from models.evaluation.current import list_kept_changes
from models.execution.keep_models import open_kept
from models.families.family import Family
from models.predicting.extract_features import make_missing
from models.predicting.geojson import open_projection
from models.predicting.nearness import measure_nearness
from models.predicting.place import Place, hash_place, open_place
from models.predicting.predictions_table import name_shares
from models.predicting.write_predictions import (
    SCHEMA_VERSION,
    check_written,
    read_facts,
    write_predictions,
)
from models.settings import FitSettings
from models.store.kept_models import KeptModel, find_kept
from models.uncertainty.applicability import Applicability, read_applicability

Report = Callable[[int, int], None]  # tiles done, tiles in all


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions of some tiles or areas.

    Attributes
    ----------
    values : (n,), or of classes (n, n_classes) probabilities; NaN where a tile was rejected.
    distance : (n,), dissimilarity to the training rows; 1 is the limit.
    density : (n,), number of training rows that are alike.
    is_known : (n,), false where a group column has a value that no training row had.
    """

    values: Floats
    distance: Floats
    density: Floats
    is_known: Bools

    def take(self, rows: Ints) -> Predicted:
        """Return some of them, in any order."""
        return Predicted(
            self.values[rows], self.distance[rows], self.density[rows], self.is_known[rows]
        )


def predict_place(
    settings: FitSettings,
    source: PlaceSettings | Path,
    target: str,
    out: Path,
    *,
    model: str | None = None,
    cut: str | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Predict a target for every tile and area of a place, with intervals, and write it under
    `out`.

    Parameters
    ----------
    settings : of the experiment whose models were kept.
    source : settings of the place, or its features alone.
    model, cut : of the kept model; None for the best of the target.
    report : called with the number of tiles done, and of all (without features: those read).

    Returns
    -------
    The content of `predict.json`.

    Raises
    ------
    PlaceError, KeptModelError, ValueError : the place, the model or the folder cannot be used.
    """
    with locked_to_read(settings.folder):
        kept = find_kept(settings.folder, target, model=model, cut=cut, must_see=False)
        changes = list_kept_changes(settings, kept)
        fitted = open_kept(settings, kept)
        applicability = read_applicability(kept.path)
    if not isinstance(source, Path):
        open_projection(source)
    with locked(out), ExitStack() as stack:
        if not isinstance(source, Path) and source.folder != settings.folder:
            make_missing(settings, source, [kept])
        place = open_place(source, kept, stack)
        key = hash_place(place, kept)
        done = _read_done(out, key, target)
        if done is not None:
            return _mark(done, changes)
        folder = _prepare_pieces(out, key)
        pieces: list[Path] = []
        predict = open_predictor(place, kept, fitted, applicability)
        for rows, tiles in place.pieces():
            path = folder / f"piece-{len(pieces):05d}.parquet"
            if not path.is_file():
                frame = _as_frame(tiles, predict(rows, tiles), kept)
                with write_atomically(path) as partial:
                    frame.to_parquet(partial, index=False)
            pieces.append(path)
            if report:
                n_all = len(place.features[0]) if place.features else rows.stop
                report(rows.stop, n_all)
        nearness = measure_nearness(settings, pieces)
        facts = write_predictions(out, place, kept, pieces, key=key, nearness=nearness)
        shutil.rmtree(out / "parts")
    return _mark(facts, changes)


def _mark(facts: dict[str, Any], changes: list[str]) -> dict[str, Any]:
    """Return what was predicted, with a note where the model is of other data than those of now."""
    if not changes:
        return facts
    note = (
        f"the model is older than its data: {'; '.join(changes)}. Run `make models`, and predict "
        "into another folder."
    )
    return {**facts, "notes": [*facts["notes"], note]}


def _read_done(out: Path, key: str, target: str) -> dict[str, Any] | None:
    """Return `predict.json` where these predictions are complete; refuse other ones."""
    if not (out / "predict.json").is_file():
        return None
    facts = read_facts(out)
    if facts["key"] != key or facts["target"] != target:
        raise PlaceError(
            f"{out}: holds predictions of {facts['target']!r} by {facts['model']!r} on "
            f"{facts['cut']!r} for another place, model or features. Name another folder with "
            "--out, or remove this one."
        )
    if facts["schema_version"] < SCHEMA_VERSION:  # without the hashes of its files
        return None
    if not all((out / name).is_file() for name in facts["files"]):
        return None
    for name in facts["files"]:
        check_written(out, facts, name)
    return facts


def _prepare_pieces(out: Path, key: str) -> Path:
    """Make the folder of the pieces of these predictions, and remove those of others."""
    folder = out / "parts" / key[:16]
    for other in (out / "parts").glob("*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _as_frame(tiles: Tiles, predicted: Predicted, kept: KeptModel) -> pd.DataFrame:
    """Return what the tables of tiles are made from; ids as text, and whether they are numbers."""
    columns: dict[str, Any] = {
        "id": tiles.id.astype(str).to_numpy(object),
        "is_integer_id": tiles.id.dtype.kind == "i",
        "area": tiles.area.to_numpy(object),
        "distance": predicted.distance,
        "density": predicted.density,
        "is_known": predicted.is_known,
    }
    if tiles.xy is not None:
        columns["x"] = tiles.xy[:, 0]
        columns["y"] = tiles.xy[:, 1]
    names = name_shares(kept.facts["classes"])
    if names:
        columns |= dict(zip(names, predicted.values.T, strict=True))
    else:
        columns["prediction"] = predicted.values
    return pd.DataFrame(columns)


def open_predictor(
    place: Place, kept: KeptModel, model: Family, applicability: Applicability | None
) -> Callable[[slice, Tiles], Predicted]:
    """Return a function from the rows of a piece, and its tiles, to their predictions."""
    if kept.cell.spec.area:
        return AreaPredictor(place, kept, model, applicability)
    return TilePredictor(place, kept, model, applicability)


@dataclass(frozen=True, slots=True)
class TilePredictor:
    """Predicts tiles by a model whose rows are tiles."""

    place: Place
    kept: KeptModel
    model: Family
    applicability: Applicability | None

    def __call__(self, rows: slice, tiles: Tiles) -> Predicted:
        """Predict the tiles of a piece."""
        is_usable = self.place.is_usable(rows)
        n_classes = len(self.kept.facts["classes"])
        shape = (len(tiles), n_classes) if n_classes else (len(tiles),)
        predicted = Predicted(
            values=np.full(shape, np.nan),
            distance=np.full(len(tiles), np.nan),
            density=np.full(len(tiles), np.nan),
            is_known=np.ones(len(tiles), dtype=bool),
        )
        if not is_usable.any():
            return predicted
        X = feed_piece(self.place, self.kept, rows, tiles)
        some = predict_rows(self.model, self.applicability, X, n_classes)
        predicted.values[is_usable] = some.values
        predicted.distance[is_usable] = some.distance
        predicted.density[is_usable] = some.density
        is_known = are_groups_known(tiles, self.kept.facts["feed"])
        predicted.is_known[is_usable] = is_known[is_usable]
        return predicted


class AreaPredictor:
    """Predicts tiles by a model whose rows are areas: every tile of an area the same.

    The features of all tiles are pooled by area first, in the order of the file.
    """

    def __init__(
        self, place: Place, kept: KeptModel, model: Family, applicability: Applicability | None
    ) -> None:
        codes, names, X, is_known = self._read(place, kept)
        self._place = place
        self._areas = pd.Index(names)
        pooled = pool_rows(X, codes)
        n_classes = len(kept.facts["classes"])
        predicted = predict_rows(model, applicability, pooled, n_classes)
        self._predicted = replace(predicted, is_known=is_known)

    @staticmethod
    def _read(place: Place, kept: KeptModel) -> tuple[Ints, list[str], Features, Bools]:
        """Return the area number of each usable tile (n,), the areas, X, and which areas have
        groups that are known.
        """
        numbers: dict[str, int] = {}
        codes = []
        unknown = []
        beside = []
        for rows, tiles in place.pieces():
            is_usable = place.is_usable(rows)
            areas = map(str, tiles.area[is_usable])
            of_piece = [numbers.setdefault(area, len(numbers)) for area in areas]
            codes.append(np.array(of_piece))
            is_known = are_groups_known(tiles, kept.facts["feed"])
            unknown.append(~is_known[is_usable])
            if kept.cell.spec.groups:
                piece = feed_piece(place, kept, rows, tiles)
                beside.append(piece.read_beside())
        code = np.concatenate(codes).astype(np.int64)
        assert place.embedding is not None
        n_tiles = len(place.features[0])
        is_usable = place.is_usable(slice(0, n_tiles))
        X = place.embedding.rows(np.flatnonzero(is_usable))
        if beside:
            groups = np.concatenate(beside)
            wide = np.zeros((n_tiles, groups.shape[1]), np.float32)
            wide[is_usable] = groups
            X = replace(X, beside=wide)
        n_unknown = np.bincount(code, weights=np.concatenate(unknown))
        return code, list(numbers), X, n_unknown == 0

    def __call__(self, rows: slice, tiles: Tiles) -> Predicted:
        """Return the predictions of the areas of a piece's tiles."""
        areas = pd.Index(tiles.area.astype(str))
        predicted = self._predicted.take(self._areas.get_indexer(areas))
        is_rejected = ~self._place.is_usable(rows)
        predicted.values[is_rejected] = np.nan
        predicted.distance[is_rejected] = np.nan
        predicted.density[is_rejected] = np.nan
        return predicted


def predict_rows(
    model: Family, applicability: Applicability | None, X: Features, n_classes: int
) -> Predicted:
    """Predict rows of features: (n, n_features)."""
    values = model.predict(X)
    if not n_classes:
        values = values[:, 0]
    distance = np.full(len(X), np.nan)
    density = np.full(len(X), np.nan)
    if applicability is not None:
        measured = applicability.measure(X)
        distance = measured.value / applicability.limit
        density = measured.density
    return Predicted(values, distance, density, is_known=np.ones(len(X), dtype=bool))


def feed_piece(place: Place, kept: KeptModel, rows: slice, tiles: Tiles) -> Features:
    """Return what the model is fed of the usable tiles of a piece, as it was when it was fitted."""
    cell = kept.cell
    usable = np.flatnonzero(place.is_usable(rows))
    embedding = Features(np.zeros((len(usable), 0), np.float32))
    if place.embedding is not None:
        view = place.embedding.rows(usable + rows.start)
        embedding = Features(view.array(), grid=view.grid)
    pictures = None
    if cell.spec.feed == "metadata":
        pictures = place.read_pictures(rows)
    if pictures is not None:
        pictures = pictures[usable]
    data = CutData(
        cut=cell.cut,
        tiles=usable,
        embedding=embedding,
        pictures=pictures,
        source={},
    )
    X, _ = feed_rows(data, tiles, cell.spec, kept.facts["feed"])
    return X


def are_groups_known(tiles: Tiles, feed: dict[str, Any]) -> Bools:
    """Return whether every group of a tile has a value that training rows had: (n_tiles,)."""
    is_known = np.ones(len(tiles), dtype=bool)
    for name in feed.get("group_columns", ()):
        values = tiles.groups[name].astype(str)
        if "columns" in feed:
            columns = name + "=" + values
            is_known &= columns.isin(feed["columns"]).to_numpy()
        elif "values" in feed:
            known = list(map(str, feed["values"]))
            is_known &= values.isin(known).to_numpy()
    return is_known
