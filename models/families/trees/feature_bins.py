"""Features as XGBoost's histogram bins, made piece by piece, and the threads and the device that work on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import joblib
import numpy as np

from models.data.arrays import Ints
from models.data.features import Features

if TYPE_CHECKING:
    import xgboost

Device = Literal["auto", "cpu", "cuda"]

_BINNED_BYTES = (
    1 << 30
)  # most that the binned matrices of fits side by side may fill; one alone may be larger
_SKETCHED = (
    1 << 27
)  # most values that bins are found on: XGBoost's sketch of 29,000 × 25,088 took four minutes and 6 GiB
_GATHERED_BYTES = (
    1 << 30
)  # of columns in float32, which are picked out of the features in one reading
_FEWEST = 1024  # rows that are sketched even so
_BYTES_A_VALUE = 2  # a bin by rows and the same by columns


def bin_groups(
    X: Features,
    groups: Sequence[Ints],
    *,
    max_bin: int,
    threads: int,
    refs: Sequence[xgboost.QuantileDMatrix] | None = None,
) -> list[xgboost.QuantileDMatrix]:
    """Bin each group of columns, without labels.

    The bins hold about as many rows each, whatever the rows weigh; of more than 2²⁷ values they are found on rows that are
    evenly spaced. The features are read once for as many groups as fill 1 GiB in float32; a larger one is read piece by
    piece, as often as XGBoost asks for it.

    Parameters
    ----------
    X : (n_rows, n_features).
    groups : columns of each group.
    max_bin : bins of a feature.
    threads : threads that work on it.
    refs : the training rows whose bins to use, where these are rows to be predicted.
    """
    known = list(refs or [None] * len(groups))
    binned = list[Any]()
    a_read = max(1, _GATHERED_BYTES // (4 * max(1, len(X)) * max(map(len, groups))))
    for start in range(0, len(groups), a_read):
        some = groups[start : start + a_read]
        fits = 4 * len(X) * max(map(len, some)) <= _GATHERED_BYTES
        parts: list[tuple[Features, Ints | None]] = (
            [(part, None) for part in _gather(X, some)] if fits else [(X, some[0])]
        )
        while parts:  # each is let go as soon as it is binned
            binned.append(_bin(*parts.pop(0), known[len(binned)], max_bin=max_bin, threads=threads))
    return binned


def _gather(X: Features, groups: Sequence[Ints]) -> list[Features]:
    """Pick each group's columns out of the features, in float32."""
    parts = [np.empty((len(X), len(columns)), np.float32) for columns in groups]
    for rows, piece in X.chunks():
        for part, columns in zip(parts, groups, strict=True):
            part[rows] = piece[:, columns]
    return [Features(part) for part in parts]


def _bin(
    X: Features,
    columns: Ints | None,
    ref: xgboost.QuantileDMatrix | None,
    *,
    max_bin: int,
    threads: int,
) -> Any:
    """Bin some columns, None for all."""
    import xgboost

    step = -(
        -len(X) // max(_FEWEST, _SKETCHED // (X.shape[1] if columns is None else len(columns)))
    )
    if ref is None and step > 1:
        ref = _bin(
            X.rows(np.arange(0, len(X), step)), columns, None, max_bin=max_bin, threads=threads
        )
    return xgboost.QuantileDMatrix(_pieces()(X, columns), max_bin=max_bin, nthread=threads, ref=ref)


@cache
def _pieces() -> Any:
    """Return the class of XGBoost's iterators over features; it is made once, as a class goes late, with all that it knows."""
    import xgboost

    class Pieces(xgboost.DataIter):
        """The features from the first row to the last, as often as they are asked for."""

        def __init__(self, X: Features, columns: Ints | None) -> None:
            super().__init__()
            self._features = X
            self._columns = columns

        def reset(self) -> None:
            self._coming = self._features.chunks()

        def next(self, input_data: Any) -> bool:
            _, piece = next(self._coming, (None, None))
            if piece is not None:
                input_data(
                    data=piece
                    if self._columns is None
                    else np.ascontiguousarray(piece[:, self._columns])
                )
            return piece is not None

    return Pieces


def share_threads(n_jobs: int, n_fits: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Return (fits side by side, threads of each), so that together they use `n_jobs` threads (0 or −1: every core).

    Fits side by side use the cores better than threads within one, but each holds a binned matrix of the given shape.
    """
    threads = n_jobs if n_jobs > 0 else joblib.cpu_count()
    by_memory = max(1, _BINNED_BYTES // max(1, _BYTES_A_VALUE * shape[0] * shape[1]))
    beside = max(1, min(threads, n_fits, by_memory))
    return beside, max(1, threads // beside)


def choose_device(asked: Device) -> str:
    """Return `cpu` or `cuda`: what is asked for, and for `auto` cuda where XGBoost was built for it and a GPU is there."""
    if asked != "auto":
        return asked
    import xgboost

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*")) and not hidden
    return "cuda" if has_gpu and xgboost.build_info()["USE_CUDA"] else "cpu"
