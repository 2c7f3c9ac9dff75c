"""How long the planned runs will take: from those done in this folder, else from what each family cost elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from extract.config.cuts import ALL_CUTS, CellCut, Cut
from extract.store.embeddings import Embeddings
from extract.tables.tile_table import Tiles
from models.data.classes import list_classes
from models.data.design import features_path
from models.execution.costs import Params, Work, count_seconds
from models.families.family import Family
from models.families.registry import FINETUNE, STACK
from models.settings import FitSettings
from models.store.cells import Cell, Planned, stack_members

_PROBE_SECONDS = 0.046  # what `_probe` took where the costs were measured, with two threads a fit: a core of a Zen 3 machine
_MOST_THREADS = 8  # that make a fit faster
_STOPPED = ("head", "head:joint", "cnn", "tail", FINETUNE, "xgboost")  # early, nobody knows when


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

    def total(self, workers: int) -> float:
        """Seconds of all of them: shared out among workers, but no less than the longest."""
        return max(sum(self.seconds.values()) / workers, max(self.seconds.values(), default=0.0))


def forecast(
    settings: FitSettings, tiles: Tiles, planned: list[Planned], *, threads: int
) -> Forecast:
    """Predict the seconds of every run that has something to fit.

    What runs of a family took in this folder, with whatever parameters, corrects what its parameters let expect; of a family
    that has none here, a probe of the machine does.

    Parameters
    ----------
    threads : of each run.
    """
    todo = [p for p in planned if p.missing]
    if not todo:
        return Forecast(seconds={}, source="")
    sizes = _Sizes(settings, tiles, planned)
    known = _measure(planned, sizes)
    blind = sorted({p.cell.spec.family for p in todo} - set(known))
    speed = _probe() / _PROBE_SECONDS * 2 / min(threads, _MOST_THREADS) if blind else 1.0
    seconds = {
        p.cell: known.get(p.cell.spec.family, speed)
        * count_seconds(p.cell.spec, sizes.params(p), sizes.work(p, p.missing))
        for p in todo
    }
    return Forecast(
        seconds=seconds,
        source=_name_source(sorted({p.cell.spec.family for p in todo} & set(known)), blind),
    )


def _measure(planned: list[Planned], sizes: _Sizes) -> dict[str, float]:
    """Return what the runs of each family took in this folder, in times of what was to be expected."""
    sums: dict[str, list[float]] = {}
    for p in (p for p in planned if p.took):
        try:
            expected = count_seconds(
                p.cell.spec, sizes.params(p) | _plain(p.took_with), sizes.work(p, list(p.took))
            )
        except (
            TypeError,
            ValueError,
            LookupError,
            ArithmeticError,
        ):  # parameters that are none of this version's
            continue
        family = sums.setdefault(p.cell.spec.family, [0.0, 0.0])
        family[0], family[1] = family[0] + sum(p.took.values()), family[1] + expected
    return {family: took / expected for family, (took, expected) in sums.items() if took > 0}


def _name_source(known: list[str], blind: list[str]) -> str:
    said = [f"from the runs in this folder for {', '.join(known)}"] if known else []
    if blind:
        said.append(
            f"from costs known from elsewhere and a short probe of this machine's processor for {', '.join(blind)}: "
            "within a factor of three, mostly"
        )
    stopped = [family for family in blind if family in _STOPPED]
    if stopped:
        said.append(f"{', '.join(stopped)} may stop early or late")
    return "; ".join(said)


class _Cut(NamedTuple):
    """What one row of a cut is."""

    n_features: int
    grid: tuple[int, ...]


class _Sizes:
    """How much each run is fitted on, and with which parameters."""

    def __init__(self, settings: FitSettings, tiles: Tiles, planned: list[Planned]) -> None:
        self._settings = settings
        self._tiles = tiles
        self._n_areas = int(tiles.area.nunique())
        self._cuts = {
            cut: _read_cut(settings, cut) for cut in {p.cell.cut for p in planned} - {ALL_CUTS}
        }
        self._cells = [p.cell for p in planned]
        self._outputs = {str(t): 1 for t in tiles.targets} | {
            str(t): len(list_classes(tiles.classes[t])) for t in tiles.classes
        }

    def work(self, p: Planned, targets: list[str]) -> Work:
        """Return what a run of some targets is fitted on."""
        cell = p.cell
        asked = self._settings
        n_members = len(stack_members(self._cells, cell.split)) if cell.cut is ALL_CUTS else 0
        cut = _Cut(n_members, ()) if cell.cut is ALL_CUTS else self._cuts[cell.cut]
        return Work(
            n_tiles=len(self._tiles),
            n_areas=self._n_areas,
            n_features=cut.n_features,
            grid=cut.grid,
            backbone=cell.cut.backbone if isinstance(cell.cut, Cut) and cut.grid else "",
            side=cut.grid[0] if cell.spec.family == FINETUNE else asked.extract.size,
            outputs=tuple(self._outputs[t] for t in targets),
            folds=asked.models.folds,
            is_nested=p.is_nested,
        )

    def params(self, p: Planned) -> dict[str, Any]:
        """Return the parameters that the settings give a run's family."""
        return (
            {}
            if p.cell.spec.family == STACK
            else _plain(self._settings.models.build(p.cell.spec).get_params())
        )


def _plain(params: Params) -> dict[str, Any]:
    """Return parameters of a family inside another, as of one behind a PCA, by their own names."""
    return {
        name.rpartition("__")[2]: value
        for name, value in params.items()
        if not isinstance(value, Family)
    }


def _read_cut(settings: FitSettings, cut: CellCut) -> _Cut:
    if not isinstance(cut, Cut):
        return _Cut(0, ())
    with Embeddings(features_path(settings.folder, cut.backbone)) as embeddings:
        shape = tuple(embeddings.shape(cut.dataset))
    return _Cut(int(np.prod(shape)), shape if len(shape) == 3 else ())


def _probe() -> float:
    """Seconds of a fixed piece of arithmetic, the best of five; more threads would wait for each other on a busy machine."""
    values: Any = np.random.default_rng(0).normal(size=(1200, 1200)).astype(np.float32)
    found = []
    with threadpool_limits(1):
        for _ in range(5):
            start = time.perf_counter()
            _ = values @ values, np.sort(values, axis=0)
            found.append(time.perf_counter() - start)
    return min(found)
