"""Read everything that the report shows into tidy tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from extract.errors import ReportError
from extract.tables.tile_table import Tiles, read_tiles
from models.auditing.audit_file import AuditDocument, read_audit
from models.evaluation.comparisons import COMPARISON_COLUMNS, WINNER_COLUMNS
from models.settings import STRICTNESS
from models.store.runs import read_predictions, run_folder
from models.store.score_tables import join_cut, read_scores, read_table
from models.uncertainty.coverage import COLUMNS as COVERAGE_COLUMNS
from reports.data.boundaries import Boundaries, open_boundaries
from reports.data.extraction_summary import read_rejects, read_stages, read_weights
from reports.data.galleries import Galleries, read_galleries
from reports.data.learning_curves import read_best_curves
from reports.data.runs_table import read_runs
from reports.settings import ReportSettings

SPLITS = STRICTNESS[::-1]  # the farthest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Everything that one report is made from.

    Attributes
    ----------
    scores : rows of scores.csv of numeric targets, with `cut`, `is_baseline` and `is_fused` added;
        one row a (split, cut, model, target, level).
    class_scores : those of targets that are classes.
    split : the split held out farthest that was scored.
    level : `area` where areas were scored, else `tile`.
    best : one row a target: its best model that sees pictures alone, or the best baseline where
        there is none.
    baseline : one row a target: its best baseline; may be empty.
    fused : one row a target: its best model that sees pictures and area descriptors; may be empty.
    comparisons, winners : `COMPARISON_COLUMNS` and `WINNER_COLUMNS` of
        `models.evaluation.comparisons`; empty where nothing was compared.
    coverage : `models.uncertainty.coverage.COLUMNS`, of the kept models' intervals; may be empty.
    tile_predictions : target, model, cut, unit, truth, prediction of the best models, by tile.
    predictions : the same, one row a unit.
    unit : what a row of `predictions` is, `area` or `tile`.
    tiles : the tile table; None where it is gone.
    audit : `audit.json` with its findings; None where the data were not audited.
    runs : the finished runs, `reports.data.runs_table.COLUMNS`.
    missing_runs : those asked for that are not finished.
    weights : one row a backbone, `reports.data.extraction_summary.WEIGHT_COLUMNS`.
    stages : one row a (backbone, stage): seconds.
    rates : by backbone, tiles_per_second and peak_rss_bytes.
    rejects : id, path, reason.
    ceiling : target, r2 at `level`; empty where unknown.
    boundaries : the areas' polygons, where the settings name them.
    curves : `reports.data.learning_curves.COLUMNS`; empty where no best model learns in epochs.
    galleries : the explained tiles of each target; empty where nothing was explained.
    scored_on : the day on which scores.csv was written.
    """

    settings: ReportSettings
    scores: pd.DataFrame
    class_scores: pd.DataFrame
    split: str
    level: str
    best: pd.DataFrame
    baseline: pd.DataFrame
    fused: pd.DataFrame
    comparisons: pd.DataFrame
    winners: pd.DataFrame
    coverage: pd.DataFrame
    tile_predictions: pd.DataFrame
    predictions: pd.DataFrame
    unit: str
    tiles: Tiles | None
    audit: AuditDocument | None
    runs: pd.DataFrame
    missing_runs: list[str]
    weights: pd.DataFrame
    stages: pd.DataFrame
    rates: pd.DataFrame
    rejects: pd.DataFrame
    ceiling: pd.DataFrame
    boundaries: Boundaries | None
    curves: pd.DataFrame
    galleries: Galleries
    scored_on: str

    @property
    def targets(self) -> list[str]:
        """Targets that are numbers and were scored, in the order of the settings."""
        scored = list(dict.fromkeys(self.scores["target"]))
        known = [t for t in self.settings.targets.names if t in scored]
        return known + [t for t in scored if t not in known]

    @property
    def all_targets(self) -> list[str]:
        """Targets that are numbers and were scored, then those that are classes."""
        classes = [t for t in self.settings.targets.names if t not in self.targets]
        return [*self.targets, *classes]

    def select_reported(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the split held out farthest at the reported level."""
        return rows[(rows["split"] == self.split) & (rows["level"] == self.level)]

    @property
    def random_backbones(self) -> list[str]:
        """Backbones that ran with random weights."""
        is_random = self.weights["is_random"].astype(bool)
        names: list[str] = self.weights.loc[is_random, "backbone"].tolist()
        return names


def collect(settings: ReportSettings) -> Collected:
    """Read everything that the report shows.

    Raises
    ------
    ReportError : no scores, or scores, ceiling or stages that cannot be read.
    """
    folder = settings.folder
    every = read_checked_scores(folder)
    is_class = every["balanced_accuracy"].notna()
    scores = every[~is_class]
    class_scores = every[is_class]
    found = set(every["split"])
    split = next((name for name in SPLITS if name in found), min(found))
    level = "area" if "area" in set(every["level"]) else "tile"
    is_reported = (every["split"] == split) & (every["level"] == level)
    strict = scores[is_reported[scores.index]]
    fitted = strict[~strict["is_baseline"] & ~strict["is_fused"]]
    unfitted = strict[~strict["target"].isin(fitted["target"])]
    best = _first_of_targets(pd.concat([fitted, unfitted]))
    tiles = read_tiles(settings) if settings.tiles.source.exists() else None
    areas = None
    if tiles is not None:
        areas = pd.Series(tiles.area.astype(str).to_numpy(), tiles.id.astype(str))
    runs = read_runs(settings, every, tiles)
    predictions = _read_best_predictions(folder, best)
    stages, rates = read_stages(folder / "features" / "stages.json")
    return Collected(
        settings=settings,
        scores=scores,
        class_scores=class_scores,
        split=split,
        level=level,
        best=best,
        baseline=_first_of_targets(strict[strict["is_baseline"]]),
        fused=_first_of_targets(strict[strict["is_fused"]]),
        comparisons=_read_optional(folder / "comparisons.csv", COMPARISON_COLUMNS),
        coverage=_read_optional(folder / "coverage.csv", COVERAGE_COLUMNS),
        winners=_read_optional(folder / "winners.csv", WINNER_COLUMNS),
        tile_predictions=predictions,
        predictions=_by_area(predictions, areas),
        unit="tile" if areas is None else "area",
        tiles=tiles,
        audit=read_audit(folder) if (folder / "audit.json").is_file() else None,
        runs=runs.runs,
        missing_runs=runs.missing,
        weights=read_weights(folder, settings.extract.backbones),
        stages=stages,
        rates=rates,
        rejects=read_rejects(folder / "features" / "rejects.csv"),
        ceiling=_read_ceiling(settings.targets.ceiling, level),
        boundaries=None if tiles is None else open_boundaries(settings, tiles),
        curves=read_best_curves(folder, every[is_reported]),
        galleries=read_galleries(folder, settings.targets.names),
        scored_on=_read_day(folder / "scores.csv"),
    )


def read_checked_scores(folder: Path) -> pd.DataFrame:
    """Read `scores.csv`; add `cut`, `is_baseline` and `is_fused`.

    A baseline sees no picture; a fused model sees pictures and area descriptors.

    Raises
    ------
    RunFileError : not there, or a column missing.
    ReportError : no row.
    """
    scores = read_scores(folder)
    if scores.empty:
        raise ReportError(f"{folder / 'scores.csv'}: no row. Run `make models` again.")
    names = ["split", "backbone", "layer", "pooling", "model", "target", "level"]
    scores = scores.astype(dict.fromkeys(names, str))
    scores["cut"] = [
        join_cut(*parts) for parts in scores[["backbone", "layer", "pooling"]].to_numpy().tolist()
    ]
    scores["is_baseline"] = scores["backbone"] == "none"
    scores["is_fused"] = scores["model"].str.contains("+groups", regex=False)
    return scores


def _read_day(path: Path) -> str:
    """Return the day on which a file was written, as `28 November 2026` (UTC)."""
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return f"{written.day} {written:%B %Y}"


def _first_of_targets(rows: pd.DataFrame) -> pd.DataFrame:
    return (
        rows.sort_values("r2", ascending=False, na_position="last")
        .drop_duplicates("target")
        .reset_index(drop=True)
    )


def _read_optional(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a table that an experiment of one cell has no rows for; empty where there is none."""
    table = read_table(path) if path.is_file() else pd.DataFrame(columns=list(columns))
    lost = [name for name in columns if name not in table]
    if lost:
        raise ReportError(
            f"{path}: no column {', '.join(lost)}. Delete {path.with_name('scores.json')} and run "
            "`make models`."
        )
    names = {"split", "level", "target", "best_cut", "best_model", "cut", "model"}
    return table.astype(dict.fromkeys(names.intersection(table), str))


def _read_best_predictions(folder: Path, best: pd.DataFrame) -> pd.DataFrame:
    columns = ["target", "model", "cut", "unit", "truth", "prediction"]
    parts = [pd.DataFrame(columns=columns)]
    keys = best[["split", "cut", "model", "target"]].astype(str)
    for split, cut, model, target in keys.to_numpy().tolist():
        if not (run_folder(folder, split, cut, model) / "run.json").is_file():
            continue
        rows = read_predictions(folder, split, cut, model)
        is_asked = (rows["target"].astype(str) == target) & (rows["fold"] >= 0)
        rows = rows[is_asked].dropna()
        unit = rows["id"].astype(str)
        parts.append(rows.assign(target=target, model=model, cut=cut, unit=unit)[columns])
    known = [part for part in parts if len(part)]
    return pd.concat(known or parts)


def _by_area(predictions: pd.DataFrame, areas: pd.Series[str] | None) -> pd.DataFrame:
    if areas is None or predictions.empty:
        return predictions
    named = predictions.assign(unit=predictions["unit"].map(areas))
    units = named.groupby(["target", "model", "cut", "unit"], as_index=False)
    return units[["truth", "prediction"]].mean()


def _read_ceiling(path: Path | None, level: str) -> pd.DataFrame:
    if path is None:
        return pd.DataFrame(columns=["target", "r2"])
    if not path.is_file():
        raise ReportError(
            f"[targets] ceiling: no such file {path}. Mend the path, or remove the key."
        )
    table = pd.read_csv(path, keep_default_na=False, na_values={"r2": ["", "nan", "NaN"]})
    missing = {"target", "level", "r2"} - set(table)
    if missing:
        raise ReportError(f"[targets] ceiling {path}: no column {', '.join(sorted(missing))}.")
    return table.loc[table["level"] == level, ["target", "r2"]].astype({"target": str})
