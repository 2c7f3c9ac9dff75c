"""What comes out of a fit: choices, learning curves, and predictions of rows that were not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from extract.config.arrays import Floats

Chosen = dict[str, Any]  # name of a parameter → its chosen value


class Epoch(NamedTuple):
    """A point of a learning curve.

    The losses are squared errors in standard deviations of the target, or cross entropies.

    Attributes
    ----------
    epoch : 1 for the first.
    loss : mean over the epoch's batches in training, with dropout and augmentation.
    held_loss : after the epoch, on the rows that decide when to stop.
    best : whether this epoch's weights were kept.
    """

    epoch: int
    loss: float
    held_loss: float
    best: bool


class HeldOut(NamedTuple):
    """What a model that has not seen some parts of the folds gives.

    Attributes
    ----------
    predicted : (n_asked, n_targets).
    chosen : for each target, the parameters chosen inside the training rows.
    curves : for each target, its learning curve; empty where nothing is trained in epochs.
    """

    predicted: Floats
    chosen: list[Chosen]
    curves: Sequence[list[Epoch]] = ()


class CrossFit(NamedTuple):
    """Out-of-fold predictions.

    Attributes
    ----------
    predicted : (n_rows, n_targets), each row by a model that has not seen its fold; NaN for rows in
        no fold.
    nested : (n_rows, n_targets) or None, each row by a model that has seen neither its fold nor the
        fold before: a stack learns from them what it predicts the fold before with.
    chosen : for each target, fold → the parameters chosen inside that fold's training rows.
    curves : for each target, fold → its learning curve; empty where nothing is trained in epochs.
    """

    predicted: Floats
    nested: Floats | None
    chosen: list[dict[str, Chosen]]
    curves: Sequence[dict[str, list[Epoch]]] = ()
