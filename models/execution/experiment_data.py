"""The data that every fit of an experiment reads: tile table, folds, and the last cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from extract.config.cuts import CellCut
from extract.errors import FitError
from extract.tables.tile_table import Tiles, read_tiles
from models.data.cut_data import CutData, read_cut
from models.data.design import Design, build_design
from models.data.fold_file import open_folds
from models.data.folds import Folds
from models.settings import FitSettings
from models.store.cells import Cell
from models.store.feature_origin import find_origin


class ExperimentData:
    """The tile table and the folds of an experiment, and the cut that was read last.

    Another process gets the settings alone, and opens the data once for all its fits.

    Parameters
    ----------
    folds : split → folds of all tiles of the table.
    """

    def __init__(self, settings: FitSettings, tiles: Tiles, folds: Mapping[str, Folds]) -> None:
        self.settings = settings
        self.tiles = tiles
        self.folds = folds
        self._last_cut: CutData | None = None
        self._last_key: tuple[CellCut, str] | None = None

    def __reduce__(self) -> tuple[Callable[[FitSettings], ExperimentData], tuple[FitSettings]]:
        # another process may stand in another folder
        settings = self.settings.model_copy(update={"out": self.settings.folder})
        return open_experiment, (settings,)

    def open_design(
        self, cell: Cell, source: Mapping[str, Any], *, folds: Folds | None = None
    ) -> Design:
        """Build what a model is fitted on; a cut is read where it is not the last one.

        Parameters
        ----------
        source : the run's inputs, among them the hashes of the features that were planned for.
        folds : of all tiles of the table; None for those of the cell's split.

        Raises
        ------
        FitError : as `read_cut` and `build_design`; the features are not those of the plan.
        """
        settings = self.settings
        data = self._read_cut(cell.cut, source)
        changed = [
            name for name, sha256 in data.source.items() if source.get(name, sha256) != sha256
        ]
        if changed:
            raise FitError(
                f"the features have changed since the run was planned ({', '.join(changed)}). "
                "Run the same command again."
            )
        design = build_design(
            data,
            self.tiles,
            cell.spec,
            folds=folds or self.folds[cell.split],
            region=settings.models.region,
            weights=settings.models.weights,
        )
        origin = find_origin(settings, cell.spec, cell.cut)
        return replace(design, X=replace(design.X, origin=origin))

    def _read_cut(self, cut: CellCut, source: Mapping[str, Any]) -> CutData:
        key = (cut, str(source.get("features_sha256", source["usable_sha256"])))
        if self._last_cut is None or self._last_key != key:
            self._last_cut = None  # its memory is free before the next one is read
            self._last_cut = read_cut(
                self.settings.folder,
                self.tiles,
                cut,
                self.settings.parts_of(cut),
                self.settings.extract.backbones,
                memory=self.settings.models.memory_bytes,
            )
            self._last_key = key
        return self._last_cut


def open_experiment(settings: FitSettings) -> ExperimentData:
    """Return the data of an experiment; one process opens them once, unless a file changes.

    Raises
    ------
    ValueError : as `read_tiles` and `open_folds`.
    """
    times = []
    for path in (settings.tiles.table, settings.folder / "folds.parquet"):
        if path is not None and path.is_file():
            times.append(path.stat().st_mtime_ns)
    return _open_version(settings.model_dump_json(), tuple(times))


@lru_cache(maxsize=1)
def _open_version(settings_json: str, times: tuple[int, ...]) -> ExperimentData:  # noqa: ARG001
    """Open the data once for the same settings and modification times."""
    settings = FitSettings.model_validate_json(settings_json)
    tiles = read_tiles(settings)
    options = settings.models.fold_options
    folds = open_folds(settings.folder, tiles, options, is_read_only=True).folds
    return ExperimentData(settings, tiles, folds)
