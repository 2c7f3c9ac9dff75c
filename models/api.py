"""Scores, predictions and kept models from Python: the functions of `import models`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from extract.api import find_experiment
from extract.errors import KeptModelError, PlaceError
from extract.files.names import encode_name
from extract.settings import read_settings
from models.data.classes import choose_classes
from models.data.features import Features
from models.execution.keep_models import open_kept
from models.families.family import Family
from models.predicting.write_predictions import check_written, read_facts
from models.settings import FitSettings
from models.store import score_tables
from models.store.kept_models import KeptModel, find_kept
from models.store.kept_models import load_model as read_model
from models.store.scores_file import read_stated


def read_scores(experiment: str | Path) -> pd.DataFrame:
    """Read the scores of an experiment, held against the hash that they were written with.

    Parameters
    ----------
    experiment : its folder, as `artifacts/town`, or its settings file.

    Returns
    -------
    A row for each target, split, cut, model and level, with the columns of `scores.csv`.

    Raises
    ------
    RunFileError : not there, unfinished, or changed since.
    """
    folder = find_experiment(experiment)
    scores = score_tables.read_scores(folder)
    read_stated(folder)
    return scores


def read_predictions(experiment: str | Path, target: str, *, level: str = "tile") -> pd.DataFrame:
    """Read what `roofline predict` wrote for a target.

    Parameters
    ----------
    experiment : folder or settings of the place that was predicted, or the folder after `--out`.
    level : `tile` or `area`.

    Returns
    -------
    A row a tile by `id`, or a row an area by `area`, with prediction and bounds of the intervals.

    Raises
    ------
    PlaceError : nothing was predicted there, it was changed since, or another level is asked for.
    """
    files = {"tile": "predictions.parquet", "area": "areas.parquet"}
    if level not in files:
        raise PlaceError(f"level {level!r}: expected 'tile' or 'area'.")
    folder = find_experiment(experiment)
    name = encode_name(target)
    places = [folder / "predictions" / name, folder / name, folder]
    for place in places:
        path = place / files[level]
        if (place / "predict.json").is_file() and path.is_file():
            index = "id" if level == "tile" else "area"
            check_written(place, read_facts(place), files[level])
            return pd.read_parquet(path).set_index(index)
    raise PlaceError(
        f"{places[0]}: no predictions of {target!r}. Run `roofline predict --target {target}` "
        "first."
    )


class LoadedModel:
    """A kept model that predicts from embeddings.

    Attributes
    ----------
    target, name, cut : what it predicts, its name, and the cut that it is fed.
    classes : names of the classes; empty where it predicts numbers.
    facts : all that `model.json` says of it.
    """

    def __init__(self, kept: KeptModel, fitted: Family) -> None:
        self.facts: dict[str, Any] = kept.facts
        self.target = str(kept.facts["target"])
        self.name = kept.cell.model
        self.cut = str(kept.cut)
        self.classes: list[str] = list(kept.facts["classes"])
        self._fitted = fitted

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict from embeddings of the model's cut.

        Parameters
        ----------
        X : (n, n_features), or (n, height, width, channels) of a map; finite.

        Returns
        -------
        (n,), numbers in the unit of the target, or names of classes.

        Raises
        ------
        KeptModelError : X is empty, of one dimension, not finite, or of another width.
        """
        values = self._fitted.predict(self._check(X))
        if self.classes:
            return np.asarray(choose_classes(values, self.classes))
        return np.asarray(values[:, 0])

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Return the probability of each of `classes`: (n, n_classes).

        Raises
        ------
        KeptModelError : as `predict`, or the model predicts numbers.
        """
        if not self.classes:
            raise KeptModelError(f"{self}: predicts numbers, which have no probabilities.")
        return np.asarray(self._fitted.predict(self._check(X)))

    def _check(self, X: ArrayLike) -> Features:
        rows = np.asarray(X)
        if rows.ndim not in (2, 4) or len(rows) == 0:
            raise KeptModelError(
                f"{self}: expected X of (n, n_features), or of maps, got shape {rows.shape}."
            )
        if not np.isfinite(rows).all():
            raise KeptModelError(
                f"{self}: NaN or infinity in X. Leave rejected tiles out, as `frame` does."
            )
        grid = rows.shape[1:] if rows.ndim == 4 else None
        features = Features(rows.reshape(len(rows), -1), grid=grid)
        expected = self.facts["feed"].get("n_features")
        if expected is not None and features.n_core != expected:
            raise KeptModelError(
                f"{self}: expected {expected} features of {self.cut}, got {features.n_core}."
            )
        return features

    def __repr__(self) -> str:
        """Return name, cut and target."""
        return f"<{self.name} on {self.cut} for {self.target}>"


def load_model(
    experiment: str | Path, target: str, *, model: str | None = None, cut: str | None = None
) -> LoadedModel:
    """Load the best kept model of a target, to predict from embeddings of single tiles.

    Parameters
    ----------
    experiment : its settings file, or its folder; models of estimators need the settings file.
    model, cut : of the kept model; None for the best of the target.

    Raises
    ------
    KeptModelError : there is none, or it takes group columns or the means of areas: name another.
    RunFileError : damaged, of an older Roofline, or not trusted.

    Examples
    --------
    >>> kept = models.load_model("artifacts/town", "income")  # doctest: +SKIP
    >>> kept.predict(extract.open_embeddings("artifacts/town")[kept.cut].frame)  # doctest: +SKIP
    """
    kept = find_kept(find_experiment(experiment), target, model=model, cut=cut)
    lacking = ""
    if kept.cell.spec.groups:
        lacking = "group columns of the table beside embeddings"
    elif kept.cell.spec.area:
        lacking = "the mean of all tiles of an area"
    if lacking:
        raise KeptModelError(
            f"{kept.path}: takes {lacking}. Predict with `roofline predict`, or name a kept model "
            "that takes single tiles, as model='ridge'."
        )
    path = Path(experiment)
    if path.suffix == ".toml":
        return LoadedModel(kept, open_kept(read_settings(path, FitSettings), kept))
    return LoadedModel(kept, read_model(kept.path))
