"""Predictions for the tiles of a place by a kept model: part by part, each on disk before the next, then one table.

A part is computed anywhere: in this process, in others, or on a cluster. What is killed goes on with the missing parts.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from extract.errors import PlaceError
from extract.files.atomic import publish
from extract.files.locks import locked
from models.execution.engine import read_engine
from models.execution.fit_cell import told_threads
from models.families.family import Family
from models.predicting.extract_features import make_missing
from models.predicting.map_coordinates import check_map
from models.predicting.model_inputs import read_part
from models.predicting.place import Place, key_place, open_place
from models.predicting.place_settings import PlaceSettings
from models.predicting.write_predictions import SCHEMA, SCHEMA_VERSION, write_told
from models.settings import FitSettings
from models.store.kept_models import KeptModel, find_kept, load_model, read_kept
from models.store.runs import hash_file, read_document
from models.uncertainty.applicability import Reach, read_reach

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a worker needs to predict any part; it may be sent to another process.

    Attributes
    ----------
    place : settings of the place, as JSON, or its features. model : folder of the kept model. parts : folder of the parts.
    threads : of one part.
    """

    place: str | Path
    model: Path
    parts: Path
    threads: int


def predict_place(
    settings: FitSettings,
    place: PlaceSettings | Path,
    target: str,
    out: Path,
    *,
    model: str | None = None,
    cut: str | None = None,
    report: Report | None = None,
) -> dict[str, Any]:
    """Predict a target for every tile and area of a place, with intervals, and write it all under `out`.

    Parameters
    ----------
    settings : of the experiment whose models were kept. place : settings of the place, or its features alone.
    model, cut : of the kept model; the best of the target else.
    report : called with parts done, and all.

    Returns
    -------
    What `predict.json` says.

    Raises
    ------
    PlaceError, KeptModelError, ValueError : the place, the model or the folder cannot be used; the text says what to do.
    """
    tell = report or (lambda *_: None)
    kept = find_kept(settings.folder, target, model=model, cut=cut, must_see=False)
    if not isinstance(place, Path):
        check_map(place)
    with locked(out):
        if not isinstance(place, Path) and place.folder != settings.folder:
            make_missing(settings, place, [kept])
        key = key_place(place, kept)
        done = _done(out, key)
        if done is not None:
            return done
        folder = _clear(out, key)
        opened = open_place(place, kept, folder)
        engine = read_engine(settings.models)
        n_parts = len(opened.parts)
        order = Order(
            place=_send(place),
            model=kept.path.resolve(),
            parts=folder.resolve(),
            threads=engine.threads,
        )
        paths = [_part_path(order.parts, i) for i in range(n_parts)]
        todo = [i for i, path in enumerate(paths) if not path.is_file()]
        tell(n_parts - len(todo), n_parts)
        _hold(order, opened)
        for n, _ in enumerate(engine.each(joblib.delayed(predict_part)(order, i) for i in todo), 1):
            tell(n_parts - len(todo) + n, n_parts)
        facts = write_told(out, opened, kept, paths, key=key)
        _HELD.clear()
        shutil.rmtree(out / "parts")
    return facts


def _clear(out: Path, key: str) -> Path:
    """Return the folder of the parts of these predictions; parts of others are removed."""
    folder = out / "parts" / key[:16]
    for other in (out / "parts").glob("*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _send(place: PlaceSettings | Path) -> str | Path:
    """Return what another process can open the place from, wherever it stands."""
    return (
        place.resolve()
        if isinstance(place, Path)
        else place.model_copy(update={"out": place.folder}).model_dump_json()
    )


def _done(out: Path, key: str) -> dict[str, Any] | None:
    path = out / "predict.json"
    if not path.is_file():
        return None
    facts = read_document(path, SCHEMA, SCHEMA_VERSION)
    if facts["key"] != key:
        raise PlaceError(
            f"{out}: holds predictions of {facts['target']!r} by {facts['model']!r} on {facts['cut']!r} for another "
            "place, model or features. Name another folder with --out, or remove this one."
        )
    return facts if all((out / name).is_file() for name in facts["files"]) else None


def _part_path(folder: Path, i: int) -> Path:
    return folder / f"part-{i:05d}.parquet"


_HELD: dict[Order, Place] = {}  # of this process, at most one


def _hold(order: Order, place: Place) -> None:
    _HELD.clear()
    _HELD[order] = place


@lru_cache(maxsize=1)
def _open_model(path: Path, key: str) -> tuple[KeptModel, Family, Reach | None]:  # noqa: ARG001
    return read_kept(path), load_model(path), read_reach(path)


def predict_part(order: Order, i: int) -> None:
    """Predict one part of the tiles, and write it: row, prediction (or a probability each class), distance, is_known."""
    kept, model, reach = _open_model(order.model, hash_file(order.model / "model.json"))
    if order not in _HELD:
        source = (
            order.place
            if isinstance(order.place, Path)
            else PlaceSettings.model_validate_json(order.place)
        )
        _hold(order, open_place(source, kept, order.parts))
    place = _HELD[order]
    rows = place.parts.rows(i)
    names = [f"p_{name}" for name in kept.facts["classes"]] or ["prediction"]
    frame = pd.DataFrame(
        {"row": rows, **dict.fromkeys(names, np.nan), "distance": np.nan, "is_known": True}
    )
    part = read_part(place, kept, rows)
    if part is not None:
        with threadpool_limits(order.threads):
            values = told_threads(model, order.threads).predict(part.X)[part.row_of_tile]
            distance = np.full(len(part.X), np.nan) if reach is None else reach.measure(part.X)
        where = np.searchsorted(rows, part.rows)
        frame.loc[where, names] = values
        frame.loc[where, "distance"] = distance[part.row_of_tile]
        frame.loc[where, "is_known"] = part.is_known[part.row_of_tile]
    path = _part_path(order.parts, i)
    partial = path.with_name(path.name + ".partial")
    frame.to_parquet(partial, index=False)
    publish(partial, path)
