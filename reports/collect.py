"""Everything the report shows, read from disk into tidy tables; nothing is read after this."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from extract.embeddings import Embeddings
from extract.tiles import read_tiles
from models.runs import read_predictions, read_scores, run_folder
from reports.settings import Settings

SPLITS = ("block", "area", "random")  # the strictest first


class CollectError(ValueError):
    """What the report is made from is missing or damaged; the text says which file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """Everything that one report is made from.

    Attributes
    ----------
    scores : scores.csv with `cut` and `is_baseline` added; one row a (split, cut, model, target, level).
    split, level : the strictest split that was scored, and `area` where areas were scored, else `tile`.
    best : one row a target: its best model that sees pictures alone (the best baseline where there is none).
    baseline : one row a target: its best baseline; may be empty.
    fused : one row a target: its best model that sees pictures and area descriptors; may be empty.
    predictions : target, model, cut, unit, truth, prediction of the best models, one row a unit.
    unit : what one row of the predictions is, `area` or `tile`.
    weights : one row a backbone: weights, is_random, sha256, precision, device, tiles, rejected.
    stages : one row a (backbone, stage): seconds. `rates` : tiles_per_second of each backbone.
    rejects : id, path, reason.
    ceiling : target, r2 at `level`; empty where unknown.
    """

    settings: Settings
    scores: pd.DataFrame
    split: str
    level: str
    best: pd.DataFrame
    baseline: pd.DataFrame
    fused: pd.DataFrame
    predictions: pd.DataFrame
    unit: str
    weights: pd.DataFrame
    stages: pd.DataFrame
    rates: dict[str, float]
    rejects: pd.DataFrame
    ceiling: pd.DataFrame
    n_areas: int | None

    @property
    def targets(self) -> list[str]:
        """Targets that were scored, in the order of the settings."""
        scored = list(dict.fromkeys(self.scores["target"]))
        known = [t for t in self.settings.targets.columns if t in scored]
        return known + [t for t in scored if t not in known]

    @property
    def random_backbones(self) -> list[str]:
        """Backbones that ran with random weights."""
        return [str(b) for b in self.weights.loc[self.weights["is_random"].astype(bool), "backbone"]]


def collect(settings: Settings) -> Collected:
    """Read everything that the report shows.

    Raises
    ------
    CollectError : no scores, or scores, ceiling or stages that cannot be read.
    """
    folder = settings.folder
    scores = read_checked_scores(folder)
    split = next((s for s in SPLITS if s in set(scores["split"])), str(scores["split"].iloc[0]))
    level = "area" if "area" in set(scores["level"]) else "tile"
    strict = scores[(scores["split"] == split) & (scores["level"] == level)]
    fitted = strict[~strict["is_baseline"] & ~strict["is_fused"]]
    best = _first_of_targets(pd.concat([fitted, strict[~strict["target"].isin(fitted["target"])]]))
    areas = _read_areas(settings)
    predictions = _read_best_predictions(folder, best)
    weights = _read_weights(folder, settings.extract.backbones)
    stages, rates = _read_stages(folder / "features" / "stages.json")
    return Collected(
        settings=settings,
        scores=scores,
        split=split,
        level=level,
        best=best,
        baseline=_first_of_targets(strict[strict["is_baseline"]]),
        fused=_first_of_targets(strict[strict["is_fused"]]),
        predictions=_by_area(predictions, areas),
        unit="tile" if areas is None else "area",
        weights=weights,
        stages=stages,
        rates=rates,
        rejects=_read_rejects(folder / "features" / "rejects.csv"),
        ceiling=_read_ceiling(settings.targets.ceiling, level),
        n_areas=None if areas is None else int(areas.nunique()),
    )


def read_checked_scores(folder: Path) -> pd.DataFrame:
    """Read `scores.csv`; add `cut`, `is_baseline` (no picture seen) and `is_fused` (pictures and area descriptors).

    Raises
    ------
    RunError : not there, or a column missing.
    CollectError : no row.
    """
    scores = read_scores(folder)
    if scores.empty:
        raise CollectError(f"{folder / 'scores.csv'}: no row. Run `make models` again.")
    names = ["split", "backbone", "layer", "pooling", "model", "target", "level"]
    scores = scores.astype(dict.fromkeys(names, str))
    cut = scores["backbone"] + "/" + scores["layer"] + ":" + scores["pooling"]
    scores["cut"] = cut.mask(scores["backbone"] == "none", "none")
    scores["is_baseline"] = scores["backbone"] == "none"
    scores["is_fused"] = scores["model"].str.contains("+groups", regex=False)
    return scores


def _first_of_targets(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values("r2", ascending=False, na_position="last").drop_duplicates("target").reset_index(drop=True)


def _read_areas(settings: Settings) -> pd.Series[str] | None:
    """Area of each tile, by its id as text; None where the table is gone (scores stand without it)."""
    if not settings.tiles.source.exists():
        return None
    tiles = read_tiles(settings)
    return pd.Series(tiles.area.astype(str).to_numpy(), index=tiles.id.astype(str).to_numpy())


def _read_best_predictions(folder: Path, best: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for split, cut, model, target in best[["split", "cut", "model", "target"]].astype(str).to_numpy().tolist():
        if (run_folder(folder, split, cut, model) / "run.json").is_file():
            part = read_predictions(folder, split, cut, model)
            part = part[(part["target"].astype(str) == target) & (part["fold"] >= 0)]
            parts.append(part.assign(target=target, model=model, cut=cut, unit=part["id"].astype(str)))
    columns = ["target", "model", "cut", "unit", "truth", "prediction"]
    return pd.concat(parts)[columns].dropna() if parts else pd.DataFrame(columns=columns)


def _by_area(predictions: pd.DataFrame, areas: pd.Series[str] | None) -> pd.DataFrame:
    if areas is None or predictions.empty:
        return predictions
    named = predictions.assign(unit=predictions["unit"].map(areas))
    return named.groupby(["target", "model", "cut", "unit"], as_index=False)[["truth", "prediction"]].mean()


def _read_weights(folder: Path, backbones: list[str]) -> pd.DataFrame:
    rows = []
    for backbone in backbones:
        path = folder / "features" / f"{backbone}.h5"
        if path.is_file():
            with Embeddings(path) as embeddings:
                rows.append(_weights_row(backbone, embeddings))
    columns = [
        "backbone",
        "weights",
        "is_random",
        "sha256",
        "precision",
        "device",
        "tiles",
        "rejected",
        "created_with",
    ]
    return pd.DataFrame(rows, columns=columns)


def _weights_row(backbone: str, embeddings: Embeddings) -> dict[str, Any]:
    attributes = embeddings.attributes
    weights = str(attributes.get("weights", "unknown"))
    return {
        "backbone": backbone,
        "weights": weights,
        "is_random": bool(attributes.get("weights_are_random", False)) or weights.startswith("random:"),
        "sha256": str(attributes.get("weights_sha256", "")),
        "precision": str(attributes.get("precision", "")),
        "device": str(attributes.get("device", "")),
        "created_with": str(attributes.get("created_with", "")),
        "tiles": len(embeddings.is_ok),
        "rejected": int((~embeddings.is_ok).sum()),
    }


def _read_stages(path: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    columns = ["backbone", "stage", "seconds"]
    if not path.is_file():
        return pd.DataFrame(columns=columns), {}
    try:
        document: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            (backbone, stage, float(seconds))
            for backbone, one in document.items()
            for stage, seconds in one.get("seconds", {}).items()
        ]
        rates = {b: float(one["tiles_per_second"]) for b, one in document.items() if one.get("tiles_per_second")}
    except (ValueError, AttributeError, TypeError) as error:
        raise CollectError(f"stages {path}: not readable ({error}). Delete it, or run `make features` again.") from None
    return pd.DataFrame(rows, columns=columns), rates


def _read_rejects(path: Path) -> pd.DataFrame:
    columns = ["id", "path", "reason"]
    if not path.is_file() or not path.stat().st_size:
        return pd.DataFrame(columns=columns)
    return pd.read_csv(path, dtype=str, keep_default_na=False).reindex(columns=columns)


def _read_ceiling(path: Path | None, level: str) -> pd.DataFrame:
    if path is None:
        return pd.DataFrame(columns=["target", "r2"])
    if not path.is_file():
        raise CollectError(f"[targets] ceiling: no such file {path}. Mend the path, or remove the key.")
    table = pd.read_csv(path)
    missing = {"target", "level", "r2"} - set(table)
    if missing:
        raise CollectError(f"[targets] ceiling {path}: no column {', '.join(sorted(missing))}.")
    return table.loc[table["level"] == level, ["target", "r2"]].astype({"target": str}).reset_index(drop=True)
