"""What is told of an area: the mean of its tiles' predictions, with intervals of its own level."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.data.arrays import Ints
from models.predicting.tile_predictions import bounds
from models.store.kept_models import KeptModel


class Areas:
    """Sums over the tiles of each area, met one after the other: its name, its first row, a count, and a sum or one a class."""

    def __init__(self, kept: KeptModel) -> None:
        self._kept = kept
        classes = kept.facts["classes"]
        self._columns = [f"p_{name}" for name in classes] if classes else ["prediction"]
        self._place: dict[str, int] = {}
        self._sums = np.zeros((0, len(self._columns)))
        self._n = np.zeros(0)
        self._first = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Count the areas."""
        return len(self._place)

    def add(self, frame: pd.DataFrame, rows: Ints) -> None:
        """Add the tiles of a part; rejected ones do not count.

        Parameters
        ----------
        rows : (n,) increasing, of the table.
        """
        local, names = pd.factorize(frame["area"])
        place = np.array([self._place.setdefault(str(name), len(self._place)) for name in names])
        more = len(self._place) - len(self._n)
        self._sums = np.pad(self._sums, ((0, more), (0, 0)))
        self._n = np.pad(self._n, (0, more))
        self._first = np.pad(self._first, (0, more), constant_values=np.iinfo(np.int64).max)
        np.minimum.at(self._first, place, rows[np.unique(local, return_index=True)[1]])
        values = frame[self._columns].to_numpy(np.float64)
        is_known = np.isfinite(values[:, 0])
        self._n[place] += np.bincount(local[is_known], minlength=len(place))
        for i, column in enumerate(values[is_known].T):
            self._sums[place, i] += np.bincount(
                local[is_known], weights=column, minlength=len(place)
            )

    def table(self) -> pd.DataFrame:
        """Return a row an area, in the order of the table; NaN where every tile was rejected."""
        order = np.argsort(self._first, kind="stable")
        sums = self._sums[order]
        n = self._n[order]
        mean = np.divide(sums, n[:, None], out=np.full(sums.shape, np.nan), where=n[:, None] > 0)
        start = {
            "area": np.array(list(self._place), dtype=object)[order],
            "n_tiles": n.astype(np.int64),
        }
        classes = self._kept.facts["classes"]
        if not classes:
            return pd.DataFrame(
                {**start, **bounds(mean[:, 0], self._kept.facts["intervals"].get("area", {}))}
            )
        is_known = n > 0
        best = np.array(classes, dtype=object)[np.where(is_known[:, None], mean, 0).argmax(axis=1)]
        return pd.DataFrame(
            {
                **start,
                "prediction": pd.Series(best).where(is_known, None),
                **dict(zip(self._columns, mean.T, strict=True)),
            }
        )
