"""Gradient boosting by XGBoost; the features are binned once for each set of training rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from joblib import Parallel, delayed

from extract.config.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Folds, Held
from models.families.family import (
    NO_CONTEXT,
    Chosen,
    Family,
    FitContext,
    HeldOut,
    Task,
    as_probabilities,
    labelled_groups,
)
from models.families.trees.binned_matrix import Device, bin_features, choose_device, share_threads
from models.families.trees.tree_checks import check_booster

if TYPE_CHECKING:
    import xgboost

DEFAULT_ROUNDS = 100  # where there are not two parts, so that none can be watched
_NOTHING: Held = frozenset()
_FILE = "booster-{}.ubj"


class _Table(NamedTuple):
    """What is fitted; of classes, Y is (n_rows, 1), the row's class, NaN where it has none."""

    X: Features
    Y: Floats
    folds: Folds
    weight: Floats


class _Boosted(NamedTuple):
    """The boosters of one set of training rows.

    Attributes
    ----------
    boosters : one a target, of the rounds that were asked for; empty where none were. Classes have
        one together.
    best : watched part → round of the lowest error there, for each target; None where it has no
        label.
    """

    boosters: list[xgboost.Booster]
    best: dict[int, list[int | None]]


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

    def fit(
        self,
        X: Features,
        Y: Floats,
        *,
        folds: Folds,
        weight: Floats,
        context: FitContext = NO_CONTEXT,
    ) -> Self:
        """Choose the rounds of every target on the first and last part, then boost on all rows."""
        table = self._table(X, Y, folds, weight)
        for _, rounds, boosters in self._boost_all(table, [_NOTHING]):
            self.boosters_ = [bytes(booster.save_raw("ubj")) for booster in boosters]
            self.chosen_ = self._list_chosen(rounds, table.Y.shape[1])
        return self

    def predict(self, X: Features) -> Floats:
        """Sum the trees: (n_rows, n_targets)."""
        return _predict([_load(raw) for raw in self.boosters_], X)

    def predict_held(
        self,
        X: Features,
        Y: Floats,
        *,
        asked: Mapping[Held, Ints],
        folds: Folds,
        weight: Floats,
        context: FitContext = NO_CONTEXT,
    ) -> Iterator[tuple[Held, HeldOut]]:
        """Yield what a model without each set of held parts gives; each is boosted once."""
        table = self._table(X, Y, folds, weight)
        for held, rounds, boosters in self._boost_all(table, asked):
            predicted = _predict(boosters, X.rows(asked[held]))
            yield held, HeldOut(predicted, self._list_chosen(rounds, table.Y.shape[1]))

    def _share_boosters(self, n_targets: int) -> list[slice]:
        """Return the columns of Y that each booster is trained on."""
        return [slice(target, target + 1) for target in range(n_targets)]

    def _list_chosen(self, rounds: list[int], n_targets: int) -> list[Chosen]:
        """Return what was chosen for each target."""
        chosen: list[Chosen] = [{} for _ in range(n_targets)]
        for columns, n_rounds in zip(self._share_boosters(n_targets), rounds, strict=True):
            for one in chosen[columns]:
                one["rounds"] = n_rounds
        return chosen

    def _table(self, X: Features, Y: Floats, folds: Folds, weight: Floats) -> _Table:
        if self.task == "number":
            return _Table(X, Y, folds, weight)
        self.n_classes_ = Y.shape[1]
        codes = Y.argmax(axis=1).astype(np.float64)
        codes[np.isnan(Y[:, 0])] = np.nan
        return _Table(X, codes[:, None], folds, weight)

    def _boost_all(
        self, table: _Table, asked: Collection[Held]
    ) -> Iterator[tuple[Held, list[int], list[xgboost.Booster]]]:
        """Yield the held parts, rounds and boosters of every set of held parts that is asked for.

        The sets that hold most come first: they choose the rounds of the others.
        """
        watched: defaultdict[Held, list[int]] = defaultdict(list)
        for held in asked:
            for part in neighbours(table.folds, held):
                watched[held | {part}].append(part)
        best: dict[tuple[Held, int], list[int | None]] = {}
        every = sorted({*asked, *watched}, key=lambda held: (-len(held), sorted(held)))
        for _, group in groupby(every, key=len):
            sets = list(group)
            rounds = {
                held: self._choose_rounds(table, held, best) for held in sets if held in asked
            }
            beside, threads = share_threads(self.n_jobs, len(sets), table.X.shape)
            boost = delayed(self._boost_without)
            jobs = [boost(table, held, watched[held], rounds.get(held), threads) for held in sets]
            boosted = Parallel(n_jobs=beside, require="sharedmem")(jobs)
            for held, one in zip(sets, boosted, strict=True):
                for part, of_targets in one.best.items():
                    best[held, part] = of_targets
                if held in rounds:
                    yield held, rounds[held], one.boosters

    def _choose_rounds(
        self, table: _Table, held: Held, best: dict[tuple[Held, int], list[int | None]]
    ) -> list[int]:
        """Average the best rounds on the watched parts, for each booster."""
        rounds = []
        parts = neighbours(table.folds, held)
        for b in range(len(self._share_boosters(table.Y.shape[1]))):
            of_parts = [best[held | {part}, part][b] for part in parts]
            known = [n for n in of_parts if n is not None]
            fallback = min(DEFAULT_ROUNDS, self.n_estimators)
            rounds.append(round(float(np.mean(known))) if known else fallback)
        return rounds

    def _boost_without(
        self, table: _Table, held: Held, parts: list[int], rounds: list[int] | None, threads: int
    ) -> _Boosted:
        """Boost every target without the held parts.

        Parameters
        ----------
        parts : held parts to watch, until the error of none falls any more.
        rounds : of each target's booster that is to be kept; None to keep none.
        """
        rows = table.folds.training(held)
        if rounds is not None:
            list(labelled_groups(table.Y[rows]))
        matrix = self._bin(table, rows, threads)
        watched = {}
        for part in parts:
            rows_of_part = table.folds.asked(part, held - {part})
            if len(rows_of_part):
                watched[part] = (self._bin(table, rows_of_part, threads, matrix), rows_of_part)
        groups = self._share_boosters(table.Y.shape[1])
        boosted = _Boosted([], {part: [None] * len(groups) for part in parts})
        for b, columns in enumerate(groups):
            if not set_labels(matrix, table, rows, columns):
                continue
            labelled = {}
            for part, (part_matrix, part_rows) in watched.items():
                if set_labels(part_matrix, table, part_rows, columns):
                    labelled[part] = part_matrix
            n_rounds = rounds[b] if rounds else 0
            booster, best = self._train(matrix, labelled, n_rounds, threads)
            for part, round_ in best.items():
                boosted.best[part][b] = round_
            if rounds is not None:
                finished = self._finish(booster[:n_rounds], table.Y[rows, columns])
                boosted.boosters.append(finished)
        return boosted

    def _bin(
        self,
        table: _Table,
        rows: Ints,
        threads: int,
        reference: xgboost.QuantileDMatrix | None = None,
    ) -> xgboost.QuantileDMatrix:
        return bin_features(
            table.X.rows(rows),
            weight=table.weight[rows],
            max_bin=self.max_bin,
            threads=threads,
            reference=reference,
        )

    def _train(
        self,
        matrix: xgboost.QuantileDMatrix,
        watched: dict[int, xgboost.QuantileDMatrix],
        n_rounds: int,
        threads: int,
    ) -> tuple[xgboost.Booster, dict[int, int]]:
        """Train at least so many rounds, and until no part's error falls.

        Returns
        -------
        The booster, and each watched part's round of the lowest error.
        """
        import xgboost

        patience = self.early_stopping_rounds

        class StopWatching(xgboost.callback.TrainingCallback):
            """Stops when `n_rounds` are done and no watched part improves."""

            def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
                if epoch + 1 < n_rounds:
                    return False
                best = [find_best(errors, patience) for errors in _errors(evals_log).values()]
                return epoch + 1 - max(best, default=0) >= patience or not best

        log: dict[str, dict[str, list[float]]] = {}
        booster = xgboost.train(
            self._parameters(threads),
            matrix,
            max(n_rounds, self.n_estimators if watched else 0),
            evals=[(part_matrix, str(part)) for part, part_matrix in watched.items()],
            evals_result=log,
            callbacks=[StopWatching()],
            verbose_eval=False,
        )
        best = {part: find_best(errors, patience) for part, errors in _errors(log).items()}
        return booster, best

    def _parameters(self, threads: int) -> dict[str, Any]:
        parameters = {
            "tree_method": "hist",
            "device": choose_device(self.device),
            "max_bin": self.max_bin,
            "max_depth": self.max_depth,
            "learning_rate": self.learning_rate,
            "subsample": self.subsample,
            "colsample_bytree": self.colsample_bytree,
            "colsample_bynode": self.colsample_bynode,
            "min_child_weight": self.min_child_weight,
            "seed": self.seed,
            "nthread": threads,
            "verbosity": 0,
        }
        if self.task == "class":
            parameters |= {"objective": "multi:softprob", "num_class": self.n_classes_}
        return parameters

    def _finish(self, booster: xgboost.Booster, y: Floats) -> xgboost.Booster:
        """Note the classes of the training rows: softmax leaves a little to those that no row
        has.
        """
        if self.task == "class":
            codes = np.unique(y[~np.isnan(y)]).astype(int)
            booster.set_attr(classes=json.dumps(codes.tolist()))
        return booster

    def save(self, folder: Path) -> None:
        """Write every booster as UBJSON, and what was chosen."""
        for b, raw in enumerate(self.boosters_):
            (folder / _FILE.format(b)).write_bytes(raw)
        document = {
            "params": self.get_params(),
            "chosen": self.chosen_,
            "n_boosters": len(self.boosters_),
        }
        (folder / "boosting.json").write_text(json.dumps(document))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ValueError : a tree that does not end, or leaves its arrays; XGBoost would follow it unseen.
        """
        document = json.loads((folder / "boosting.json").read_text())
        model = cls(**document["params"])
        model.chosen_ = document["chosen"]
        model.boosters_ = []
        for b in range(document["n_boosters"]):
            raw = (folder / _FILE.format(b)).read_bytes()
            check_booster(json.loads(_load(raw).save_raw("json")))
            model.boosters_.append(raw)
        return model


class JointBoosting(Boosting):
    """One booster for all targets, whose leaves hold a value of each (`multi_output_tree`).

    Targets share splits and rounds. A row that lacks a label of any target weighs nothing, so that
    a target's result depends on which others are fitted with it.
    """

    def _share_boosters(self, n_targets: int) -> list[slice]:
        return [slice(0, n_targets)]

    def _parameters(self, threads: int) -> dict[str, Any]:
        return {**super()._parameters(threads), "multi_strategy": "multi_output_tree"}


def neighbours(folds: Folds, held: Held) -> list[int]:
    """Return the parts before and after the held ones, round the circle.

    Where none is held, those on both sides of a gap in their numbers, which is the part that was
    held when the rows were taken. None where holding one out would leave no rows.
    """
    parts = folds.parts
    if len(set(parts) - held) < 2:
        return []
    if held:
        found = [
            part for i, part in enumerate(parts) if part not in held and _beside(parts, i) & held
        ]
    else:
        gaps = [i for i in range(1, len(parts)) if parts[i] - parts[i - 1] > 1]
        after = gaps[0] if gaps else 0
        found = sorted((parts[after - 1], parts[after]))
    return [part for part in found if len(folds.training(held | {part}))]


def _beside(parts: list[int], i: int) -> set[int]:
    return {parts[i - 1], parts[(i + 1) % len(parts)]}


def set_labels(matrix: xgboost.QuantileDMatrix, table: _Table, rows: Ints, columns: slice) -> bool:
    """Set the labels and weights of a booster on a matrix; a row that lacks one weighs nothing.

    Returns
    -------
    Whether any row has all labels; nothing is set where none has.
    """
    labels = table.Y[rows, columns]
    is_known = ~np.isnan(labels).any(axis=1)
    if not is_known.any():
        return False
    first = np.flatnonzero(is_known)[0]
    labels[~is_known] = labels[first]
    matrix.set_label(labels)
    matrix.set_weight(np.where(is_known, table.weight[rows], 0.0))
    return True


def find_best(errors: list[float], patience: int) -> int:
    """Return the round of the lowest error, before `patience` rounds passed without a lower one."""
    best = 0
    lowest = np.inf
    for n_before, error in enumerate(errors):
        if n_before - best >= patience:
            break
        if error < lowest:
            lowest = error
            best = n_before + 1
    return best


def _errors(log: dict[str, dict[str, list[float]]]) -> dict[int, list[float]]:
    """Return watched part → its error after each round."""
    return {int(part): next(iter(metrics.values())) for part, metrics in log.items()}


def _predict(boosters: list[xgboost.Booster], X: Features) -> Floats:
    pieces = []
    for _, piece in X.chunks():
        columns = [booster.inplace_predict(piece) for booster in boosters]
        pieces.append(np.column_stack(columns))
    predicted = np.vstack(pieces).astype(np.float64)
    classes = boosters[0].attr("classes")
    if classes is None:
        return predicted
    is_trained = np.isin(np.arange(predicted.shape[1]), json.loads(classes))
    return as_probabilities(predicted * is_trained, "class")


def _load(raw: bytes) -> xgboost.Booster:
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(raw))
    return booster
