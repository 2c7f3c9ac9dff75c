"""What fitting a run gives, before it is written."""

from __future__ import annotations

from typing import NamedTuple

from extract.config.arrays import Floats, Ints
from models.families.fit_results import Chosen, CrossFit, Epoch
from models.store.cells import Planned


class ClassFit(NamedTuple):
    """Out-of-fold probabilities of one target.

    Attributes
    ----------
    names : the classes, in the order of the columns.
    probability : (n, n_classes), each row by a model that has not seen its fold; NaN for rows in no
        fold.
    chosen : fold → the parameters chosen inside that fold's training rows.
    seconds : of the fit. curves : fold → the learning curve; empty where nothing is learnt in
        epochs.
    """

    names: list[str]
    probability: Floats
    chosen: dict[str, Chosen]
    seconds: float
    curves: dict[str, list[Epoch]]


class Fitted(NamedTuple):
    """What a unit gives back.

    Attributes
    ----------
    plan : the run and the targets that were fitted.
    rows : (n,), rows of the tile table that are predicted. fold : (n,).
    cross : out-of-fold predictions of these rows, one column a target that is a number.
    seconds : of all fits, reading left out.
    classes : target that is a class → its out-of-fold probabilities.
    peak_rss_bytes : the most memory that the process that fitted has ever held; 0 where nobody
        measured.
    """

    plan: Planned
    rows: Ints
    fold: Ints
    cross: CrossFit
    seconds: float
    classes: dict[str, ClassFit]
    peak_rss_bytes: int = 0

    @property
    def numbers(self) -> list[str]:
        """Targets that are numbers, in the order of the columns."""
        return [t for t in self.plan.missing if t not in self.classes]
