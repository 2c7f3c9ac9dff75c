"""How long the planned runs will take: from those done in this folder, else from what each family cost elsewhere."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from extract.embeddings import Embeddings
from extract.settings import parse_cut
from extract.tiles import Tiles
from models.cells import ALL, Cell, Planned
from models.design import NONE, features_path
from models.settings import Settings

_PROBE_SECONDS = 0.028  # what `_probe` took where the costs below were measured: two cores of a Zen 3 machine


class Cost(NamedTuple):
    """Seconds of a family's run: fixed, for each 1e6 values of its features, and for each target and 1e6 values."""

    fixed: float
    values: float
    target: float


# ridge, knn, forest and xgboost from one to seven targets on 12,000 planted rows × 512 features, 5 folds, without nested
# predictions, on two cores of a Zen 3 machine: 1.1 to 1.2 s, 8.7 to 9.1 s, 31 s a target, 8 s and 9 s a target. The heads',
# the CNN's, the tail's, the whole network's, the stack's and the baselines' are guesses. All are replaced by what runs in
# the folder took, once there are some.
COSTS = {"ridge": Cost(0.1, 0.16, 0.004), "knn": Cost(0.1, 1.4, 0.01), "forest": Cost(0.1, 0.0, 5.0),
         "xgboost": Cost(0.5, 1.3, 1.5), "head": Cost(6.0, 4.0, 1.0), "head:joint": Cost(6.0, 4.0, 0.2),
         "cnn": Cost(6.0, 1.0, 30.0), "tail": Cost(20.0, 1.0, 60.0), "finetune": Cost(40.0, 1.0, 300.0),
         "stack": Cost(0.5, 2.0, 1.0)}
_KNN_ROWS = 12_000  # of the measurement: a search compares each row with each
_BASELINE = Cost(0.05, 0.2, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Predicted seconds.

    Attributes
    ----------
    seconds : of each planned run that has something to fit.
    source : what they were predicted from, for the user to read.
    """

    seconds: dict[Cell, float]
    source: str

    @property
    def total(self) -> float:
        """Seconds of all of them, one after the other."""
        return sum(self.seconds.values())


def forecast(settings: Settings, tiles: Tiles, planned: list[Planned]) -> Forecast:
    """Predict the seconds of every run that has something to fit."""
    todo = [p for p in planned if p.missing]
    if not todo:
        return Forecast(seconds={}, source="")
    widths = {cut: _width(settings, cut) for cut in {p.cell.cut for p in planned} - {ALL}}
    widths[ALL] = len({p.cell for p in planned if p.is_nested}) // max(1, len(settings.models.splits))
    ratios: dict[str, list[float]] = {}
    for p in planned:
        if p.done:
            took = sum(float(one["seconds"]) for one in p.done.values())
            expected = _cost(p.cell, len(tiles), widths[p.cell.cut], len(p.keys)) * len(p.done) / len(p.keys)
            ratios.setdefault(p.cell.spec.family, []).append(took / expected)
    known = {family: statistics.median(values) for family, values in ratios.items()}
    blind = sorted({p.cell.spec.family for p in todo} - set(known))
    speed = _probe() / _PROBE_SECONDS if blind else 1.0
    seconds = {p.cell: _cost(p.cell, len(tiles), widths[p.cell.cut], len(p.missing)) * known.get(p.cell.spec.family, speed)
               for p in todo}
    return Forecast(seconds=seconds, source=_name_source(sorted({p.cell.spec.family for p in todo} & set(known)), blind))


def _name_source(known: list[str], blind: list[str]) -> str:
    said = [f"from the runs in this folder for {', '.join(known)}"] if known else []
    said += [f"from costs known from elsewhere and a short probe of this machine for {', '.join(blind)}"] if blind else []
    return "; ".join(said)


def _cost(cell: Cell, n_tiles: int, width: int, n_targets: int) -> float:
    spec = cell.spec
    cost = COSTS.get(spec.family, _BASELINE)
    width = spec.pca or width * (2 if spec.area else 1)
    values = n_tiles * max(width, 8) / 1e6 / (5 if spec.area else 1)
    if spec.family == "knn":
        values *= n_tiles / _KNN_ROWS / (5 if spec.area else 1)
    return cost.fixed + values * (cost.values + n_targets * cost.target)


def _width(settings: Settings, cut: str) -> int:
    """Features of a tile; of the baselines, those of the widest."""
    if cut == NONE:
        return 8
    name = parse_cut(cut)
    with Embeddings(features_path(settings.folder, name.backbone)) as embeddings:
        return int(np.prod(embeddings.shape(name.dataset)))


def _probe() -> float:
    """Seconds of a fixed piece of arithmetic, the best of three."""
    values: Any = np.random.default_rng(0).normal(size=(1200, 1200)).astype(np.float32)
    found = []
    for _ in range(3):
        start = time.perf_counter()
        _ = values @ values, np.sort(values, axis=0)
        found.append(time.perf_counter() - start)
    return min(found)
