"""Features as XGBoost's histogram bins, made piece by piece, and the threads and the device that work on them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import joblib
import numpy as np
from numpy.typing import NDArray

from models.arrays import Ints
from models.families.features import Features

if TYPE_CHECKING:
    import xgboost

Device = Literal["auto", "cpu", "cuda"]

_BINNED_BYTES = 1 << 30  # most that the binned matrices of fits side by side may fill; one alone may be larger
_SKETCHED = 1 << 27  # most values that bins are found on: XGBoost's sketch of 29,000 × 25,088 took four minutes and 6 GiB
_FEWEST = 1024  # rows that are sketched even so
_BYTES_A_VALUE = 2  # a bin by rows and the same by columns


def bin_groups(X: Features, groups: Sequence[Ints], *, max_bin: int, threads: int,
               refs: Sequence[xgboost.QuantileDMatrix] | None = None) -> list[xgboost.QuantileDMatrix]:
    """Bin each group of columns, without labels; of float32 there is one piece at a time.

    The bins hold about as many rows each, whatever the rows weigh; of more than 2²⁷ values they are found on rows that are
    evenly spaced.

    Parameters
    ----------
    X : (n_rows, n_features).
    groups : columns of each group.
    max_bin : bins of a feature.
    threads : threads that work on it.
    refs : the training rows whose bins to use, where these are rows to be predicted.
    """
    pieces = list(islice(X.chunks(), 2))
    whole = pieces[0][1] if len(pieces) == 1 else None  # small: it is there once for all groups
    return [_bin(X, columns, whole, ref, max_bin=max_bin, threads=threads)
            for columns, ref in zip(groups, refs or [None] * len(groups), strict=True)]


def _bin(X: Features, columns: Ints, whole: NDArray[np.float32] | None, ref: xgboost.QuantileDMatrix | None, *, max_bin: int,
         threads: int) -> xgboost.QuantileDMatrix:
    import xgboost

    step = -(-len(X) // max(_FEWEST, _SKETCHED // len(columns)))
    if ref is None and step > 1:
        ref = _bin(X.rows(np.arange(0, len(X), step)), columns, None, None, max_bin=max_bin, threads=threads)

    class Pieces(xgboost.DataIter):
        """The features from the first row to the last, as often as they are asked for."""

        def reset(self) -> None:
            read = ([whole] if whole is not None else (piece for _, piece in X.chunks()))
            self.pieces: Iterator[NDArray[np.float32]] = iter(read)

        def next(self, input_data: Any) -> bool:
            piece = next(self.pieces, None)
            if piece is not None:
                input_data(data=np.ascontiguousarray(piece[:, columns]))
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
