"""Gradient boosting (XGBoost): the features are binned once for each set of training rows, and shared by every target."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from joblib import Parallel, delayed

from models.data.arrays import Floats
from models.data.features import Features
from models.data.folds import Folds, Held
from models.families.family import Chosen, CrossFit, Family, Task, as_probabilities, labelled_groups
from models.families.trees.column_groups import GroupedBooster, Rows, deal_columns
from models.families.trees.feature_bins import Device, bin_groups, choose_device, share_threads
from models.families.trees.tree_checks import check_booster

if TYPE_CHECKING:
    import xgboost

ROUNDS_UNWATCHED = 100  # where there are no two parts, so that none can be watched
_WHOLE: Held = frozenset()


class _Table(NamedTuple):
    """What is fitted; of classes, Y is (n_rows, 1), the number of the row's class, NaN where it has none."""

    X: Features
    Y: Floats
    folds: Folds
    weight: Floats


class _Grown(NamedTuple):
    """What came of one set of training rows.

    Attributes
    ----------
    boosters : one a target, of the rounds that were asked for; empty where none were. Classes have one together.
    best : watched part → round of the lowest error there, for each target; None where it has no label.
    """

    boosters: list[xgboost.Booster]
    best: dict[int, list[int | None]]


class Boosting(Family):
    """One booster a target on binned features, its number of rounds chosen by early stopping on inner folds.

    The parts on both sides of a fold, round the circle, are watched in turn: boosters are trained without the fold and the
    part until the part's error has not fallen for `patience` rounds. The fold's own boosters are then trained on all of its
    training rows, for the mean of the two best rounds (as they are, not scaled up for the rows gained). What is trained
    without folds f and g is watched on g for f and on f for g, and, cut at rounds that were chosen without either, gives
    the nested predictions: no set of rows is trained on twice. Rows within the buffer of the fold are not watched.

    Classes have one booster of softmax and a tree a class in each round, stopped by the log loss.

    Parameters
    ----------
    rounds : most trees of a target.
    patience : rounds without a lower error before training stops.
    depth, rate, rows, min_child : XGBoost's max_depth, eta, subsample, min_child_weight.
    columns : share of the columns that a tree sees. Of 256 and more each group of columns has its own trees, see
        `models.families.grouped`; of fewer it is XGBoost's colsample_bytree.
    max_bin : bins of a feature.
    device : `cpu`, `cuda` or `auto`: cuda where XGBoost was built for it and there is a GPU.
    n_jobs : threads of the whole; 0 for every core.
    seed : the same for every target, so that a target's result does not depend on which others are fitted with it.
    """

    revision = 4  # a tree sees one of the groups that the columns are dealt out to

    def __init__(
        self,
        rounds: int = 600,
        patience: int = 20,
        depth: int = 3,
        rate: float = 0.1,
        columns: float = 0.1,
        rows: float = 0.8,
        min_child: float = 3.0,
        max_bin: int = 64,
        device: Device = "auto",
        n_jobs: int = 0,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.rounds = rounds
        self.patience = patience
        self.depth = depth
        self.rate = rate
        self.columns = columns
        self.rows = rows
        self.min_child = min_child
        self.max_bin = max_bin
        self.device = device
        self.n_jobs = n_jobs
        self.seed = seed
        self.task = task

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Choose the rounds of every target, watching the first and the last part, then boost it on all rows."""
        for _, rounds, boosters in self._grow_all(self._table(X, Y, folds, weight), [_WHOLE]):
            self.boosters_ = [bytes(booster.save_raw("ubj")) for booster in boosters]
            self.chosen_: list[Chosen] = [{"rounds": r} for r in rounds]
        return self

    def predict(self, X: Features) -> Floats:
        """Sum the trees: (n_rows, n_targets)."""
        return _predict([_load(raw) for raw in self.boosters_], X)

    def cross_fit(
        self, X: Features, Y: Floats, *, folds: Folds, weight: Floats, nested: bool = False
    ) -> CrossFit:
        """Predict every row out of fold; each set of training rows is binned and boosted once."""
        single = {folds.parts_of(f): f for f in folds.folds}
        pairs = {folds.parts_of(f, folds.before(f)): f for f in folds.folds} if nested else {}
        predicted = np.full(Y.shape, np.nan)
        deeper = np.full(Y.shape, np.nan)
        chosen: list[dict[str, Chosen]] = [{} for _ in range(Y.shape[1])]
        for held, rounds, boosters in self._grow_all(
            self._table(X, Y, folds, weight), [*single, *pairs]
        ):
            fold = pairs.get(held, single.get(held, -1))
            rows = folds.held(folds.parts_of(fold))
            (deeper if held in pairs else predicted)[rows] = _predict(boosters, X.rows(rows))
            for t, r in enumerate(rounds if held in single else []):
                chosen[t][str(fold)] = {"rounds": r}
        return CrossFit(predicted, deeper if nested else None, chosen)

    def _table(self, X: Features, Y: Floats, folds: Folds, weight: Floats) -> _Table:
        if self.task == "number":
            return _Table(X, Y, folds, weight)
        self.n_classes_ = Y.shape[1]
        return _Table(
            X, np.where(np.isnan(Y[:, :1]), np.nan, Y.argmax(axis=1)[:, None]), folds, weight
        )

    def _grow_all(
        self, table: _Table, asked: Collection[Held]
    ) -> Iterator[tuple[Held, list[int], list[xgboost.Booster]]]:
        """Return (held parts, rounds, boosters) of every asked set of held parts; the largest sets choose for the smaller."""
        watched: defaultdict[Held, list[int]] = defaultdict(list)
        for held in asked:
            for part in ends(table.folds, held):
                watched[held | {part}].append(part)
        best: dict[tuple[Held, int], list[int | None]] = {}
        every = sorted({*asked, *watched}, key=lambda held: (-len(held), sorted(held)))
        for _, group in groupby(every, key=len):
            sets = list(group)
            rounds = {held: self._rounds(table, held, best) for held in sets if held in asked}
            beside, threads = share_threads(self.n_jobs, len(sets), table.X.shape)
            jobs = (
                delayed(self._grow)(table, held, watched[held], rounds.get(held), threads)
                for held in sets
            )
            for held, grown in zip(
                sets, Parallel(n_jobs=beside, require="sharedmem")(jobs), strict=True
            ):
                best |= {(held, part): of_targets for part, of_targets in grown.best.items()}
                if held in rounds:
                    yield held, rounds[held], grown.boosters

    def _rounds(
        self, table: _Table, held: Held, best: dict[tuple[Held, int], list[int | None]]
    ) -> list[int]:
        """Mean of the best rounds on the watched parts, for each target."""
        found = [best[held | {part}, part] for part in ends(table.folds, held)]
        known = (
            [[r for r in of_target if r is not None] for of_target in zip(*found, strict=True)]
            if found
            else [[]] * table.Y.shape[1]
        )
        return [
            round(float(np.mean(r))) if r else min(ROUNDS_UNWATCHED, self.rounds) for r in known
        ]

    def _grow(
        self, table: _Table, held: Held, parts: list[int], rounds: list[int] | None, threads: int
    ) -> _Grown:
        """Boost every target without the held parts: for as many rounds as are asked for, and until no part improves."""
        rows = table.folds.training(held)
        n_targets = table.Y.shape[1]
        if rounds is not None:
            list(labelled_groups(table.Y[rows]))
        groups = deal_columns(table.X.shape[1], self.columns, self.seed)
        bin_rows = partial(bin_groups, groups=groups, max_bin=self.max_bin, threads=threads)
        binned = bin_rows(table.X.rows(rows))
        watched = {p: of_part for p in parts if len(of_part := table.folds.asked(p, held - {p}))}
        pieces = {p: bin_rows(table.X.rows(of_part), refs=binned) for p, of_part in watched.items()}
        grown = _Grown([], {p: [None] * n_targets for p in parts})
        for t in range(n_targets):
            labelled = {
                p: own
                for p in pieces
                if (own := _label(pieces[p], table, watched[p], t)) is not None
            }
            if (training := _label(binned, table, rows, t)) is None:
                continue
            n_classes = self.n_classes_ if self.task == "class" else 0
            booster = GroupedBooster(
                training,
                groups,
                n_classes=n_classes,
                parameters=self._parameters(threads, len(groups)),
            )
            for p, best in self._boost(booster, labelled, rounds[t] if rounds else 0).items():
                grown.best[p][t] = best
            if rounds is not None:
                grown.boosters.append(booster.merge(rounds[t]))
                if self.task == "class":  # softmax leaves a little to classes that no row has
                    codes = np.unique(table.Y[rows])
                    grown.boosters[-1].set_attr(
                        classes=json.dumps(codes[~np.isnan(codes)].astype(int).tolist())
                    )
        return grown

    def _boost(
        self, booster: GroupedBooster, watched: dict[int, Rows], rounds: int
    ) -> dict[int, int]:
        """Boost at least so many rounds, and until no part's error falls; give each part's best round."""
        sums = {p: booster.watch(rows) for p, rows in watched.items()}
        lowest = dict.fromkeys(sums, np.inf)
        best = dict.fromkeys(sums, 0)
        for done in range(self.rounds):
            falling = [p for p in sums if done - best[p] < self.patience]
            if done >= rounds and not falling:
                break
            group = booster.add_round()
            for p in falling:
                error = booster.error(sums[p], group)
                if error < lowest[p]:
                    lowest[p], best[p] = error, done + 1
        return best

    def _parameters(self, threads: int, n_groups: int) -> dict[str, Any]:
        return {
            "tree_method": "hist",
            "device": choose_device(self.device),
            "max_bin": self.max_bin,
            "max_depth": self.depth,
            "eta": self.rate,
            "colsample_bytree": min(1.0, self.columns * n_groups),
            "subsample": self.rows,
            "min_child_weight": self.min_child,
            "seed": self.seed,
            "seed_per_iteration": True,
            "nthread": threads,
            "verbosity": 0,
        }

    def contributions(self, X: Features) -> Floats:
        """Return what each feature adds to each output: (n_rows, n_outputs, n_features + 1), the constant last.

        They sum to the prediction of a number, and to the logarithm of a class's share but for a constant (Lundberg et al.
        2020, doi:10.1038/s42256-019-0138-9).
        """
        import xgboost

        given = xgboost.DMatrix(X.array())
        pieces = [_load(raw).predict(given, pred_contribs=True) for raw in self.boosters_]
        return np.concatenate([p if p.ndim == 3 else p[:, None] for p in pieces], axis=1).astype(
            np.float64
        )

    def save(self, folder: Path) -> None:
        """Write every booster as UBJSON, and what was chosen."""
        for t, raw in enumerate(self.boosters_):
            (folder / f"booster-{t}.ubj").write_bytes(raw)
        text = {"params": self.get_params(), "chosen": self.chosen_}
        (folder / "boosting.json").write_text(json.dumps(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; raises ValueError where a tree leads nowhere, as XGBoost follows it unseen."""
        text = json.loads((folder / "boosting.json").read_text())
        model = cls(**text["params"])
        model.chosen_ = text["chosen"]
        model.boosters_ = [
            (folder / f"booster-{t}.ubj").read_bytes() for t in range(len(model.chosen_))
        ]
        for raw in model.boosters_:
            check_booster(json.loads(_load(raw).save_raw("json")))
        return model


def ends(folds: Folds, held: Held) -> list[int]:
    """Return the parts before and after the held ones, round the circle; none where holding one out would leave no rows.

    Where none is held, the parts on both sides of a gap in their numbers: the part that was held when the rows were taken.
    """
    parts = folds.parts
    if len(set(parts) - held) < 2:
        return []
    if not held:
        gap = next((i for i in range(1, len(parts)) if parts[i] - parts[i - 1] > 1), 0)
        found = sorted((parts[gap - 1], parts[gap]))
    else:
        found = [
            p
            for i, p in enumerate(parts)
            if p not in held and {parts[i - 1], parts[(i + 1) % len(parts)]} & held
        ]
    return [p for p in found if len(folds.training(held | {p}))]


def _label(binned: list[xgboost.QuantileDMatrix], table: _Table, rows: Any, t: int) -> Rows | None:
    """Return binned rows the labels of one target; a row without one weighs nothing. None where no row has one."""
    known = ~np.isnan(table.Y[rows, t])
    labels = np.where(known, table.Y[rows, t], 0.0).astype(
        np.float32
    )  # as the trees': else a constant is approached for ever
    return Rows(binned, labels, np.where(known, table.weight[rows], 0.0)) if known.any() else None


def _predict(boosters: list[xgboost.Booster], X: Features) -> Floats:
    pieces = [
        np.column_stack([booster.inplace_predict(piece) for booster in boosters])
        for _, piece in X.chunks()
    ]
    out = np.vstack(pieces).astype(np.float64)
    classes = boosters[0].attr("classes")
    if classes is None:
        return out
    return as_probabilities(out * np.isin(np.arange(out.shape[1]), json.loads(classes)), "class")


def _load(raw: bytes) -> xgboost.Booster:
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(raw))
    return booster
