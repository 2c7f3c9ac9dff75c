"""Gradient boosting (XGBoost): the binned features are made once and shared by every target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

import numpy as np
import xgboost

from models.family import Family, Floats, labelled_groups
from models.features import Features
from models.folds import Folds


class Boosting(Family):
    """One booster a target, stopped on an inner fold and cut back to its best round."""

    def __init__(self, rounds: int = 300, patience: int = 10, depth: int = 3, rate: float = 0.1,
                 columns: float = 0.1, max_bin: int = 64, n_jobs: int = 0, seed: int = 0) -> None:
        self.rounds, self.patience, self.depth, self.rate = rounds, patience, depth, rate
        self.columns, self.max_bin, self.n_jobs, self.seed = columns, max_bin, n_jobs, seed

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Boost every target; the number of rounds is chosen on the first fold."""
        self.boosters_: list[bytes] = [b""] * Y.shape[1]
        self.chosen_ = [{} for _ in range(Y.shape[1])]
        matrix = X.array()
        for rows, columns in labelled_groups(Y):
            train, held = next(folds.take(rows).splits(), (np.arange(len(rows)), np.arange(len(rows))))
            train, held = rows[train], rows[held]
            options = {"max_bin": self.max_bin, "nthread": self.n_jobs or None}
            binned = xgboost.QuantileDMatrix(matrix[train], weight=weight[train], **options)
            watched = xgboost.QuantileDMatrix(matrix[held], weight=weight[held], ref=binned, **options)
            for t in columns:
                binned.set_label(Y[train, t])
                watched.set_label(Y[held, t])
                self._boost(int(t), binned, watched)
        return self

    def _boost(self, t: int, binned: xgboost.QuantileDMatrix, watched: xgboost.QuantileDMatrix) -> None:
        stop = xgboost.callback.EarlyStopping(rounds=self.patience, save_best=True)
        booster = xgboost.train(self._parameters(), binned, self.rounds, evals=[(watched, "inner")],
                                callbacks=[stop], verbose_eval=False)
        self.boosters_[t] = bytes(booster.save_raw("ubj"))
        self.chosen_[t] = {"rounds": int(booster.num_boosted_rounds())}

    def _parameters(self) -> dict[str, Any]:
        return {"tree_method": "hist", "max_bin": self.max_bin, "max_depth": self.depth, "eta": self.rate,
                "colsample_bytree": self.columns, "subsample": 0.8, "min_child_weight": 3,
                "seed": self.seed, "nthread": self.n_jobs, "verbosity": 0}

    def predict(self, X: Features) -> Floats:
        """Sum the trees: (n_rows, n_targets)."""
        asked = X.array()
        return np.column_stack([_load(raw).inplace_predict(asked) for raw in self.boosters_]).astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write every booster as UBJSON, and what was chosen."""
        for t, raw in enumerate(self.boosters_):
            (folder / f"booster-{t}.ubj").write_bytes(raw)
        text = {"params": self.get_params(), "chosen": self.chosen_}
        (folder / "boosting.json").write_text(json.dumps(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        text = json.loads((folder / "boosting.json").read_text())
        model = cls(**text["params"])
        model.chosen_ = text["chosen"]
        model.boosters_ = [(folder / f"booster-{t}.ubj").read_bytes() for t in range(len(model.chosen_))]
        return model


def _load(raw: bytes) -> xgboost.Booster:
    booster = xgboost.Booster()
    booster.load_model(bytearray(raw))
    return booster
