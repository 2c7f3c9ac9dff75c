"""Features as XGBoost's binned matrices, read piece by piece, and the threads and device to use."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import joblib
import numpy as np

from extract.config.arrays import Floats
from models.data.features import Features
from models.families.training_rows import TrainingRows

if TYPE_CHECKING:
    import xgboost

Device = Literal["auto", "cpu", "cuda"]

_BINNED_BYTES = 1 << 30  # of the matrices of fits side by side; one alone may be larger
# Values that bins are found on, and that are float32 at once, 512 MiB: XGBoost's sketch of
# 29,000 x 25,088 took four minutes and 6 GiB.
_SKETCHED = 1 << 27
_FEWEST_SKETCHED = 1024  # rows
_BYTES_A_VALUE = 2  # a bin by rows and the same by columns


class BinnedRows(NamedTuple):
    """Some rows, and the binned matrix of their features."""

    rows: TrainingRows
    matrix: xgboost.QuantileDMatrix

    def set_labels(self, columns: slice) -> bool:
        """Set the labels of a booster, and weights, on the matrix; a row that lacks one weighs
        nothing.

        Parameters
        ----------
        columns : of the labels.

        Returns
        -------
        Whether any row has all labels; nothing is set where none has.
        """
        labels = self.rows.Y[:, columns]
        is_missing = np.isnan(labels).any(axis=1)
        if is_missing.all():
            return False
        known = labels[~is_missing]
        filled = labels.copy()
        filled[is_missing] = known[0]
        self.matrix.set_label(filled)
        self.matrix.set_weight(np.where(is_missing, 0.0, self.rows.weight))
        return True


def bin_rows(
    rows: TrainingRows, *, max_bin: int, threads: int, reference: BinnedRows | None = None
) -> BinnedRows:
    """Bin the features of some rows, by the bins of others where there is a `reference`."""
    matrix = bin_features(
        rows.X,
        weight=rows.weight,
        max_bin=max_bin,
        threads=threads,
        reference=None if reference is None else reference.matrix,
    )
    return BinnedRows(rows, matrix)


def bin_features(
    X: Features,
    *,
    weight: Floats,
    max_bin: int,
    threads: int,
    reference: xgboost.QuantileDMatrix | None = None,
) -> xgboost.QuantileDMatrix:
    """Bin features, without labels.

    Of up to 2²⁷ values the bins are those that XGBoost finds on the whole matrix. Of more they are
    found on rows that are evenly spaced, and the matrix is read piece by piece.

    Parameters
    ----------
    X : (n_rows, n_features).
    weight : (n_rows,), how much each row counts for the bins.
    max_bin : bins of a feature.
    reference : the training rows whose bins to use, where these are rows to be predicted.
    """
    import xgboost

    n_sketched = max(_FEWEST_SKETCHED, _SKETCHED // X.shape[1])
    step = -(-len(X) // n_sketched)
    if reference is None and step > 1:
        spaced = np.arange(0, len(X), step)
        reference = bin_features(
            X.rows(spaced), weight=weight[spaced], max_bin=max_bin, threads=threads
        )
    given: dict[str, Any] = {"max_bin": max_bin, "nthread": threads, "ref": reference}
    if step == 1 and X.fits:
        return xgboost.QuantileDMatrix(X.array(), weight=weight, **given)
    pieces = _pieces_class()(X, weight)
    return xgboost.QuantileDMatrix(pieces, **given)


@cache
def _pieces_class() -> Any:
    """Return an XGBoost iterator over features; a function, as XGBoost is slow to load."""
    import xgboost

    class Pieces(xgboost.DataIter):
        """The features from the first row to the last, as often as XGBoost asks for them."""

        def __init__(self, X: Features, weight: Floats) -> None:
            super().__init__()
            self._features = X
            self._weight = weight

        def reset(self) -> None:
            self._chunks = self._features.chunks()

        def next(self, input_data: Any) -> bool:
            rows, piece = next(self._chunks, (None, None))
            if piece is None:
                return False
            input_data(data=piece, weight=self._weight[rows])
            return True

    return Pieces


def share_threads(n_jobs: int, n_fits: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Return how many fits run side by side, and the threads of each.

    Fits side by side use the cores better than threads within one, but each holds a binned matrix
    of the given shape.

    Parameters
    ----------
    n_jobs : threads of the whole; 0 or −1 for every core.
    """
    threads = n_jobs if n_jobs > 0 else joblib.cpu_count()
    matrix_bytes = max(1, _BYTES_A_VALUE * shape[0] * shape[1])
    by_memory = max(1, _BINNED_BYTES // matrix_bytes)
    beside = max(1, min(threads, n_fits, by_memory))
    return beside, max(1, threads // beside)


def choose_device(device: Device) -> str:
    """Return `cpu` or `cuda`; for `auto` cuda where XGBoost was built for it and a GPU is there."""
    if device != "auto":
        return device
    import xgboost

    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1")
    gpus = list(Path("/dev").glob("nvidia[0-9]*"))
    is_built_for_it = xgboost.build_info()["USE_CUDA"]
    return "cuda" if gpus and is_built_for_it and not is_hidden else "cpu"
