"""What an audit looks at, and what it can say: the inputs, a finding, a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Array, Bools, Floats, Ints
from models.auditing.look_alikes import plain_form

Severity = Literal["fatal", "warning", "note"]
Need = Literal["pictures", "places", "folds"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

# Share above which a fault ends the fit. If a share s of the held-out tiles is answered from
# memory, their errors vanish, and R² rises by at most about s · (1 − R²): below 1 % that is less
# than any interval shows.
SHARE = 0.01
N_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class AuditInputs:
    """The data of an experiment as plain arrays. Row i of every field is tile i.

    Attributes
    ----------
    ids : (n,), id of each tile. area : (n,) text, the area that it lies in.
    targets : (n, n_targets); float64 with NaN where missing, or labels of any type for those in
        `classes`.
    classes : names of the targets that are classes.
    groups : (n, n_groups), the area descriptors.
    xy : (n, 2) float64, tile centres [m], or None. size_m : side of the square that a tile shows
        [m], or None.
    pictures : (n,) of `extract.pictures.decode.PICTURE`, zeros for a rejected tile, or None where
        there are no features yet.
    folds : split → (n,) fold, −1 for a tile that nobody uses.
    n_blocks : blocks that the split `block` makes its folds of, 0 without it.
    buffer_m : tiles so near to a held-out block [m] are left out of training.
    area_column : name of the column that the areas come from.
    """

    ids: Array
    area: Array
    targets: pd.DataFrame
    classes: tuple[str, ...] = ()
    groups: pd.DataFrame = field(default_factory=pd.DataFrame)
    xy: Floats | None = None
    size_m: float | None = None
    pictures: NDArray[np.void] | None = None
    folds: dict[str, Ints] = field(default_factory=dict)
    n_blocks: int = 0
    buffer_m: float = 0.0
    area_column: str = ""

    def __len__(self) -> int:
        """Count the tiles."""
        return len(self.ids)

    @cached_property
    def areas(self) -> Array:
        """Codes of the areas: (n_areas,), in order of appearance."""
        return self._factorized[1]

    @cached_property
    def has_variant(self) -> Bools:
        """Areas whose code is the same as another's to a person: (n_areas,)."""
        return self.codes.map(plain_form).duplicated(keep=False).to_numpy()

    @cached_property
    def codes(self) -> pd.Series[str]:
        """Codes of the areas as text: (n_areas,)."""
        return pd.Series(self.areas, dtype=object).map(str)

    @cached_property
    def area_number(self) -> Ints:
        """Number of each tile's area: (n,), 0 … n_areas − 1."""
        return self._factorized[0]

    @cached_property
    def tiles_of_area(self) -> Ints:
        """Tiles of each area: (n_areas,)."""
        return np.bincount(self.area_number, minlength=len(self.areas))

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Mean label of each area for every target that is a number: (n_areas, n_numeric)."""
        return self.targets[self.numeric].groupby(self.area_number).mean()

    @property
    def numeric(self) -> list[str]:
        """Targets that are numbers."""
        return [str(name) for name in self.targets if name not in self.classes]

    @cached_property
    def is_usable(self) -> Bools:
        """Tiles whose picture was decoded: (n,); the others have a file of 0 bytes."""
        if self.pictures is None:
            return np.ones(len(self), np.bool_)
        return self.pictures["bytes"] > 0

    @property
    def n_usable(self) -> int:
        """Number of tiles whose picture was decoded."""
        return int(self.is_usable.sum())

    @cached_property
    def _factorized(self) -> tuple[Ints, Array]:
        number, names = pd.factorize(np.asarray(self.area, dtype=object), use_na_sentinel=False)
        return number.astype(np.int64), np.asarray(names)

    def has(self, need: Need) -> bool:
        """Return whether the data hold what a check needs."""
        if need == "pictures":
            return self.pictures is not None
        if need == "places":
            return self.xy is not None
        return bool(self.folds)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of an audit.

    Attributes
    ----------
    severity : `fatal` ends the fit unless accepted, `warning` asks to be read, `note` informs.
    what : one sentence. count : how many (tiles, areas or targets, as `what` says).
    examples : up to 5. remedy : what to do.
    code : name of the check that found it; `[models] accept` takes it.
    """

    severity: Severity
    what: str
    count: int
    examples: list[str]
    remedy: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """A check: its code, what it needs of the data, and its function."""

    code: str
    needs: tuple[Need, ...]
    find: Callable[[AuditInputs], Iterable[Finding]]

    def __call__(self, inputs: AuditInputs) -> Iterator[Finding]:
        """Yield the findings of the check; none where the data lack what it needs."""
        if not all(inputs.has(need) for need in self.needs):
            return
        for finding in self.find(inputs):
            yield replace(finding, code=self.code, examples=finding.examples[:N_EXAMPLES])


def check(code: str, *needs: Need) -> Callable[[Callable[[AuditInputs], Iterable[Finding]]], Check]:
    """Make a function a check of this code."""
    return lambda find: Check(code, needs, find)


def grade(count: float, limit: float, above: Severity, below: Severity) -> Severity:
    """Return how severe a fault is: one thing above a limit, another up to it."""
    return above if count > limit else below


def list_texts(values: Iterable[object]) -> list[str]:
    """Return the first few of some values as text, as examples of a finding."""
    return [str(value) for value in islice(values, N_EXAMPLES)]


def count_of(count: int, of: int, noun: str) -> str:
    """Write `412 of 36,723 tiles (1.1 %)`."""
    share = 100 * count / max(of, 1)
    digits = 0 if share >= 10 else 1
    if share < 1:
        digits = 2
    return f"{count:,} of {of:,} {noun} ({share:.{digits}f} %)"
