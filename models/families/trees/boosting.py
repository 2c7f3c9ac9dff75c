"""Gradient boosting by XGBoost; the features are binned once for each set of training rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from joblib import Parallel, delayed

from extract.config.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Held
from models.families.family import Family, FitContext
from models.families.fit_results import Chosen, HeldOut
from models.families.training_rows import Task, TrainingRows, labelled_groups
from models.families.trees.binned_matrix import Device, bin_rows, choose_device, share_threads
from models.families.trees.boosters import (
    Boosted,
    load_booster,
    predict_boosters,
    read_boosters,
    set_classes,
    write_boosters,
)
from models.families.trees.early_stopping import neighbours, train_watched

if TYPE_CHECKING:
    import xgboost

DEFAULT_ROUNDS = 100  # where there are not two parts, so that none can be watched
_NOTHING: Held = frozenset()
# parameters of XGBoost that the constructor takes by XGBoost's names
_XGBOOSTS_OWN = (
    "max_bin max_depth learning_rate subsample colsample_bytree colsample_bynode min_child_weight "
    "seed"
)


class Boosting(Family):
    """XGBoost's own training, a booster a target, with rounds chosen by early stopping inside
    folds.

    The parts on both sides of a fold are watched in turn: a booster is trained without the fold and
    the part until the part's error has not fallen for `early_stopping_rounds`. The fold's own
    booster is then trained on all of its training rows, for the mean of the two best rounds. What
    is trained without folds f and g is watched on g for f and on f for g, and gives the nested
    predictions: no set of rows is trained on twice. Rows within the buffer of the fold are not
    watched.

    All targets share the binned matrix of a set of rows, and set their labels on it; a row without
    a label weighs nothing. Classes have one booster of softmax, stopped by the log loss. What is
    predicted is what `xgboost.XGBRegressor` predicts with the same rows, labels, weights,
    parameters, rounds and seed; where labels are missing, bins are of the rows without them too.

    Parameters
    ----------
    n_estimators : most rounds of a target.
    early_stopping_rounds : rounds without a lower error before training stops.
    max_depth, learning_rate, subsample, colsample_bytree, colsample_bynode, min_child_weight,
    max_bin : XGBoost's.
    device : `cpu`, `cuda` or `auto`: cuda where XGBoost was built for it and there is a GPU.
    n_jobs : threads of the whole; 0 for every core.
    seed : the same for every target, so that a target's result does not depend on the others.
    """

    revision = 6  # bins by weight, of the whole matrix
    is_joint = False  # whether one booster is of all targets

    def __init__(
        self,
        n_estimators: int = 600,
        early_stopping_rounds: int = 20,
        max_depth: int = 3,
        learning_rate: float = 0.1,
        subsample: float = 0.8,
        colsample_bytree: float = 0.1,
        colsample_bynode: float = 1.0,
        min_child_weight: float = 3.0,
        max_bin: int = 64,
        device: Device = "auto",
        n_jobs: int = 0,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.n_estimators = n_estimators
        self.early_stopping_rounds = early_stopping_rounds
        self.max_depth = max_depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.colsample_bytree = colsample_bytree
        self.colsample_bynode = colsample_bynode
        self.min_child_weight = min_child_weight
        self.max_bin = max_bin
        self.device = device
        self.n_jobs = n_jobs
        self.seed = seed
        self.task = task

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Choose the rounds of every target on the first and last part, then boost on all rows."""
        coded = self._code_classes(data)
        for _, rounds, boosters in self._boost_all(coded, [_NOTHING]):
            self.boosters_ = [bytes(booster.save_raw("ubj")) for booster in boosters]
            self.chosen_ = self._list_chosen(rounds, coded.Y.shape[1])

    def predict(self, X: Features) -> Floats:
        """Sum the trees: (n_rows, n_targets)."""
        boosters = [load_booster(raw) for raw in self.boosters_]
        return predict_boosters(boosters, X)

    def predict_held(
        self, data: TrainingRows, asked: Mapping[Held, Ints], context: FitContext
    ) -> Iterator[tuple[Held, HeldOut]]:
        """Yield what a model without each set of held parts gives; each is boosted once."""
        coded = self._code_classes(data)
        for held, rounds, boosters in self._boost_all(coded, asked):
            predicted = predict_boosters(boosters, data.X.rows(asked[held]))
            yield held, HeldOut(predicted, self._list_chosen(rounds, coded.Y.shape[1]))

    def _share_boosters(self, n_targets: int) -> list[slice]:
        """Return the columns of Y that each booster is trained on."""
        if self.is_joint:
            return [slice(0, n_targets)]
        return [slice(target, target + 1) for target in range(n_targets)]

    def _list_chosen(self, rounds: list[int], n_targets: int) -> list[Chosen]:
        """Return what was chosen for each target."""
        chosen: list[Chosen] = [{} for _ in range(n_targets)]
        for columns, n_rounds in zip(self._share_boosters(n_targets), rounds, strict=True):
            for one in chosen[columns]:
                one["rounds"] = n_rounds
        return chosen

    def _code_classes(self, data: TrainingRows) -> TrainingRows:
        """Return the rows; of classes with the row's class as label, (n_rows, 1)."""
        if self.task == "number":
            return data
        self.n_classes_ = data.Y.shape[1]
        codes = data.Y.argmax(axis=1).astype(np.float64)
        is_missing = np.isnan(data.Y[:, 0])
        codes[is_missing] = np.nan
        return data._replace(Y=codes[:, None])

    def _boost_all(
        self, data: TrainingRows, asked: Collection[Held]
    ) -> Iterator[tuple[Held, list[int], list[xgboost.Booster]]]:
        """Yield the held parts, rounds and boosters of every set of held parts that is asked for.

        The sets that hold most come first: they choose the rounds of the others.
        """
        watched: defaultdict[Held, list[int]] = defaultdict(list)
        for held in asked:
            for part in neighbours(data.folds, held):
                watched[held | {part}].append(part)
        best: dict[tuple[Held, int], list[int | None]] = {}
        every = sorted({*asked, *watched}, key=lambda held: (-len(held), sorted(held)))
        for _, group in groupby(every, key=len):
            sets = list(group)
            kept = [held for held in sets if held in asked]
            rounds = {held: self._choose_rounds(data, held, best) for held in kept}
            beside, threads = share_threads(self.n_jobs, len(sets), data.X.shape)
            boost = delayed(self._boost_without)
            jobs = [boost(data, held, watched[held], rounds.get(held), threads) for held in sets]
            boosted = Parallel(n_jobs=beside, require="sharedmem")(jobs)
            for held, one in zip(sets, boosted, strict=True):
                for part, of_targets in one.best.items():
                    best[held, part] = of_targets
                if held in rounds:
                    yield held, rounds[held], one.boosters

    def _choose_rounds(
        self, data: TrainingRows, held: Held, best: dict[tuple[Held, int], list[int | None]]
    ) -> list[int]:
        """Average the best rounds on the watched parts, for each booster."""
        rounds = []
        parts = neighbours(data.folds, held)
        boosters = self._share_boosters(data.Y.shape[1])
        for b in range(len(boosters)):
            of_parts = [best[held | {part}, part][b] for part in parts]
            known = [n for n in of_parts if n is not None]
            mean = float(np.mean(known)) if known else min(DEFAULT_ROUNDS, self.n_estimators)
            rounds.append(round(mean))
        return rounds

    def _boost_without(
        self,
        data: TrainingRows,
        held: Held,
        parts: list[int],
        rounds: list[int] | None,
        threads: int,
    ) -> Boosted:
        """Boost every target without the held parts.

        Parameters
        ----------
        parts : held parts to watch, until the error of none falls any more.
        rounds : of each target's booster that is to be kept; None to keep none.
        """
        rows = data.folds.training(held)
        if rounds is not None:
            list(labelled_groups(data.Y[rows]))  # raises where a target has no label
        training = bin_rows(data.take(rows), max_bin=self.max_bin, threads=threads)
        watched = {}
        for part in parts:
            rows_of_part = data.folds.asked(part, held - {part})
            if len(rows_of_part):
                watched[part] = bin_rows(
                    data.take(rows_of_part),
                    max_bin=self.max_bin,
                    threads=threads,
                    reference=training,
                )
        groups = self._share_boosters(data.Y.shape[1])
        boosted = Boosted([], {part: [None] * len(groups) for part in parts})
        for b, columns in enumerate(groups):
            if not training.set_labels(columns):
                continue
            labelled = {}
            for part, binned in watched.items():
                if binned.set_labels(columns):
                    labelled[part] = binned.matrix
            n_rounds = rounds[b] if rounds else 0
            booster, best = self._train(training.matrix, labelled, n_rounds, threads)
            for part, round_ in best.items():
                boosted.best[part][b] = round_
            if rounds is not None:
                kept = booster[:n_rounds]
                if self.task == "class":
                    set_classes(kept, training.rows.Y)
                boosted.boosters.append(kept)
        return boosted

    def _train(
        self,
        matrix: xgboost.QuantileDMatrix,
        watched: dict[int, xgboost.QuantileDMatrix],
        n_rounds: int,
        threads: int,
    ) -> tuple[xgboost.Booster, dict[int, int]]:
        """Train at least so many rounds, and until no part's error falls, as `train_watched`."""
        return train_watched(
            self._parameters(threads),
            matrix,
            watched,
            n_rounds=n_rounds,
            most=self.n_estimators,
            patience=self.early_stopping_rounds,
        )

    def _parameters(self, threads: int) -> dict[str, Any]:
        parameters = {name: getattr(self, name) for name in _XGBOOSTS_OWN.split()}
        parameters["tree_method"] = "hist"
        parameters["device"] = choose_device(self.device)
        parameters["nthread"] = threads
        parameters["verbosity"] = 0
        if self.is_joint:
            parameters["multi_strategy"] = "multi_output_tree"
        if self.task == "class":
            parameters["objective"] = "multi:softprob"
            parameters["num_class"] = self.n_classes_
        return parameters

    def save(self, folder: Path) -> None:
        """Write every booster as UBJSON, and what was chosen."""
        write_boosters(folder, self.boosters_)
        document = {
            "params": self.get_params(),
            "chosen": self.chosen_,
            "n_boosters": len(self.boosters_),
        }
        (folder / "boosting.json").write_text(json.dumps(document))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; errors as of `read_boosters`."""
        document = json.loads((folder / "boosting.json").read_text())
        model = cls(**document["params"])
        model.chosen_ = document["chosen"]
        model.boosters_ = read_boosters(folder, document["n_boosters"])
        return model


class JointBoosting(Boosting):
    """One booster for all targets, whose leaves hold a value of each (`multi_output_tree`).

    Targets share splits and rounds. A row that lacks a label of any target weighs nothing, so that
    a target's result depends on which others are fitted with it.
    """

    is_joint = True
