"""Which parts of the folds XGBoost's training is watched on, and when it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.data.folds import Folds, Held

if TYPE_CHECKING:
    import xgboost

Log = dict[str, dict[str, list[float]]]  # watched part → metric → its error after each round


def train_watched(
    parameters: dict[str, Any],
    matrix: xgboost.QuantileDMatrix,
    watched: dict[int, xgboost.QuantileDMatrix],
    *,
    n_rounds: int,
    most: int,
    patience: int,
) -> tuple[xgboost.Booster, dict[int, int]]:
    """Train at least so many rounds, and until the error of no watched part falls.

    Parameters
    ----------
    watched : part → its rows. n_rounds : that are trained in any case.
    most : rounds of a watched training. patience : rounds without a lower error before it stops.

    Returns
    -------
    The booster, and each watched part's round of the lowest error.
    """
    import xgboost

    class StopWatching(xgboost.callback.TrainingCallback):
        """Stops when `n_rounds` are done and no watched part improves."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            n_done = epoch + 1
            if n_done < n_rounds:
                return False
            last_best = max(find_best_rounds(evals_log, patience).values(), default=None)
            return last_best is None or n_done - last_best >= patience

    log: Log = {}
    booster = xgboost.train(
        parameters,
        matrix,
        max(n_rounds, most) if watched else n_rounds,
        evals=[(part_matrix, str(part)) for part, part_matrix in watched.items()],
        evals_result=log,
        callbacks=[StopWatching()],
        verbose_eval=False,
    )
    return booster, find_best_rounds(log, patience)


def find_best_rounds(log: Log, patience: int) -> dict[int, int]:
    """Return watched part → round of its lowest error."""
    best = {}
    for part, metrics in log.items():
        (errors,) = metrics.values()
        best[int(part)] = find_best(errors, patience)
    return best


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
