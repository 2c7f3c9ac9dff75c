"""Features as XGBoost's histogram bins, made piece by piece, and the threads and the device that work on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import joblib
import numpy as np

from models.arrays import Ints
from models.families.features import Features

if TYPE_CHECKING:
    import xgboost

Device = Literal["auto", "cpu", "cuda"]

_BINNED_BYTES = 1 << 30  # most that the binned matrices of fits side by side may fill; one alone may be larger
_SKETCHED = 1 << 27  # most values that bins are found on: XGBoost's sketch of 29,000 × 25,088 took four minutes and 6 GiB
_GATHERED_BYTES = 1 << 30  # of columns in float32, which are picked out of the features in one reading
_FEWEST = 1024  # rows that are sketched even so
_BYTES_A_VALUE = 2  # a bin by rows and the same by columns


def bin_groups(X: Features, groups: Sequence[Ints], *, max_bin: int, threads: int,
               refs: Sequence[xgboost.QuantileDMatrix] | None = None) -> list[xgboost.QuantileDMatrix]:
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
    bin_one = partial(_bin, max_bin=max_bin, threads=threads)
    known, binned = list(refs or [None] * len(groups)), list[Any]()
    a_read = max(1, _GATHERED_BYTES // (4 * max(1, len(X)) * max(map(len, groups))))
    for start in range(0, len(groups), a_read):
        some = groups[start:start + a_read]
        if 4 * len(X) * max(map(len, some)) > _GATHERED_BYTES:
            binned += [bin_one(X, columns, known[start]) for columns in some]
            continue
        parts = [np.empty((len(X), len(columns)), np.float32) for columns in some]
        for rows, piece in X.chunks():
            for part, columns in zip(parts, some, strict=True):
                part[rows] = piece[:, columns]
        binned += [bin_one(Features(part), np.arange(part.shape[1]), ref)
                   for part, ref in zip(parts, known[start:start + a_read], strict=True)]
    return binned


def _bin(X: Features, columns: Ints, ref: xgboost.QuantileDMatrix | None, *, max_bin: int, threads: int) -> Any:
    import xgboost

    step = -(-len(X) // max(_FEWEST, _SKETCHED // len(columns)))
    if ref is None and step > 1:
        ref = _bin(X.rows(np.arange(0, len(X), step)), columns, None, max_bin=max_bin, threads=threads)
    takes_all = len(columns) == X.shape[1]

    class Pieces(xgboost.DataIter):
        """The features from the first row to the last, as often as they are asked for."""

        def reset(self) -> None:
            self.pieces = X.chunks()

        def next(self, input_data: Any) -> bool:
            _, piece = next(self.pieces, (None, None))
            if piece is not None:
                input_data(data=piece if takes_all else np.ascontiguousarray(piece[:, columns]))
            return piece is not None

    return xgboost.QuantileDMatrix(Pieces(), max_bin=max_bin, nthread=threads, ref=ref)


def share_threads(n_jobs: int, n_fits: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Give (fits side by side, threads of each), so that together they use `n_jobs` threads (0 or −1: every core).

    Fits side by side use the cores better than threads within one, but each holds a binned matrix of the given shape.
    """
    threads = n_jobs if n_jobs > 0 else joblib.cpu_count()
    by_memory = max(1, _BINNED_BYTES // max(1, _BYTES_A_VALUE * shape[0] * shape[1]))
    beside = max(1, min(threads, n_fits, by_memory))
    return beside, max(1, threads // beside)


def choose_device(asked: Device) -> str:
    """Give `cpu` or `cuda`: what is asked for, and for `auto` cuda where XGBoost was built for it and a GPU is there."""
    if asked != "auto":
        return asked
    import xgboost

    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    has_gpu = any(Path("/dev").glob("nvidia[0-9]*")) and not hidden
    return "cuda" if has_gpu and xgboost.build_info()["USE_CUDA"] else "cpu"
