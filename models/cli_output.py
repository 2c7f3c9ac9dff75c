"""Print what the commands of models say: plans, findings, scores, explanations, predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from extract.console import out, print_line, print_table, print_tabs
from models.auditing.findings import Finding
from models.evaluation.standings import BALANCED
from models.execution.fit_progress import FitProgress, format_seconds
from models.execution.keep_models import rank_cells
from models.settings import FitSettings
from models.store.cells import Planned
from models.store.score_tables import join_cut
from models.store.staleness import count_reasons

Row = Sequence[str]  # split, cut, model, numbers, and last a text that may be long

_GAP = "  "
_CELL_COLUMNS = ("target", "cut", "model")
_SEVERITY_STYLES = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}
_GRID_COLUMNS = (
    "split",
    "cut",
    "model",
    "done",
    "stale",
    "missing",
    "seconds",
    "why stale",
)


def print_plan(planned: list[Planned], progress: FitProgress) -> None:
    """Print what would be fitted, and about how long it would take."""
    for note in progress.notes:
        print_line(note)
    expected = progress.expected
    rows = []
    todo = [p for p in planned if p.missing]
    for p in todo:
        about = format_seconds(expected.seconds[p.cell])
        targets = ", ".join(p.missing)
        rows.append((*p.cell.names, about, targets))
    n_missing = sum(len(p.missing) for p in planned)
    n_done = sum(len(p.done) for p in planned)
    n_stale = sum(len(p.stale) for p in planned)
    _print_runs(("split", "cut", "model", "about", "targets to fit"), rows)
    print_line(f"{n_done} cells done, {n_stale} stale, {n_missing} to fit in {len(rows)} runs.")
    if todo:
        _print_forecast(progress, n_models=len({p.cell.model for p in todo}))
        print_line("Nothing was fitted.")


def _print_forecast(progress: FitProgress, *, n_models: int) -> None:
    """Print about how long the fits would take, and of which models nobody knows."""
    workers = progress.workers
    unknown = progress.expected.unknown
    if len(unknown) < n_models:
        seconds = progress.expected.total(workers)
        noun = "worker" if workers == 1 else "workers"
        print_line(
            f"About {format_seconds(seconds)} with {workers} {noun}, by the runs in this folder."
        )
    if unknown:
        names = ", ".join(unknown)
        print_line(f"Unknown how long: {names}; nothing like it was fitted here yet.")


def print_grid(planned: list[Planned]) -> None:
    """Print how many targets of each run are done, stale (and why) and missing."""
    rows = []
    for p in planned:
        seconds = sum(float(one["seconds"]) for one in p.done.values())
        took = f"{seconds:.1f}" if p.done else ""
        counts = (
            len(p.done),
            len(p.stale),
            len(p.missing) - len(p.stale),
        )
        reasons = count_reasons(p.stale.values())
        rows.append((*p.cell.names, *map(str, counts), took, reasons))
    _print_runs(_GRID_COLUMNS, rows)


def _print_runs(columns: Row, rows: Sequence[Row]) -> None:
    """Print runs in blocks to be read, or with tabs between where another program reads."""
    if not out.is_terminal:
        print_tabs(columns, rows)
        return
    for line in block_runs(columns, rows, out.width):
        typer.echo(line)


def block_runs(columns: Row, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield a block of lines for each cut, its name above, so that no name is cut off.

    The text at the end of a run stands below it where it does not fit.

    Parameters
    ----------
    columns : names.
    rows : those of one cut follow each other.
    width : of a line [characters].
    """
    every = zip(columns, *rows, strict=True)
    widths = [max(map(len, column)) for column in every]
    if rows:
        yield from _lay_out(columns, widths, width)
    gap = False
    for cut, of_cut in groupby(rows, key=itemgetter(1)):
        if gap:
            yield ""
        gap = True
        yield f"{columns[1]} {cut}"
        for row in of_cut:
            yield from _lay_out(row, widths, width)


def _lay_out(row: Row, widths: Sequence[int], width: int) -> Iterator[str]:
    split, _, model, *numbers, text = row
    cells = [
        split.ljust(widths[0]),
        model.ljust(widths[2]),
    ]
    for number, wide in zip(numbers, widths[3:-1], strict=True):
        cells.append(number.rjust(wide))
    line = _GAP + _GAP.join(cells)
    whole = f"{line}{_GAP}{text}"
    if len(whole) <= width:
        yield whole.rstrip()
        return
    yield line.rstrip()
    below = "".ljust(widths[0])
    yield f"{_GAP}{below}{_GAP}{text}"


def print_findings(findings: Sequence[Finding], accept: Sequence[str]) -> None:
    """Print the findings of an audit, each with examples and what to do."""
    for finding in findings:
        severity = finding.severity
        style = _SEVERITY_STYLES[severity]
        is_accepted = severity == "fatal" and finding.code in accept
        accepted = " (accepted)" if is_accepted else ""
        print_line(f"{severity}{accepted}: {finding.code}", style=style)
        print_line(f"  {finding.what}")
        if finding.examples:
            examples = "; ".join(finding.examples)
            print_line(f"  e.g. {examples}")
        print_line(f"  → {finding.remedy}")


def print_best(scores: pd.DataFrame, settings: FitSettings) -> None:
    """Print the best model of each target on the split held out farthest."""
    split = settings.models.farthest
    title = f"Best of each target, split {split}"
    numbers = []
    classes = []
    of_split = scores[scores["split"] == split]
    for target in settings.targets.names:
        ranked = rank_cells(of_split[of_split["target"] == target])
        best = ranked.iloc[0]
        if pd.isna(best["rmse"]):
            error = f"{best['accuracy']:.3f}"
            classes.append((target, *_name_cell(best), error, *_score_texts(best, BALANCED)))
        else:
            error = f"{best['rmse']:.4g}"
            numbers.append((target, *_name_cell(best), error, *_score_texts(best, "r2")))
    if numbers:
        print_table((*_CELL_COLUMNS, "RMSE", "R²", "95 %"), numbers, title=title)
    if classes:
        named = (*_CELL_COLUMNS, "accuracy", "balanced accuracy", "95 %")
        print_table(named, classes, title=title)


def _name_cell(row: pd.Series) -> tuple[str, str]:
    """Return the cut and the model of a row of the scores."""
    cut = join_cut(row["backbone"], row["layer"], row["pooling"])
    return str(cut), str(row["model"])


def _score_texts(row: pd.Series, score: str) -> tuple[str, str]:
    """Return a score, and its interval."""
    low = row[f"{score}_low"]
    high = row[f"{score}_high"]
    return f"{row[score]:.3f}", f"{low:.3f} … {high:.3f}"


def print_explanation(target: str, explanation: Any, sanity: str) -> None:
    """Print what an explanation shows, and where it lies.

    Parameters
    ----------
    explanation : a `models.explaining.explanations.Explanation`.
    sanity : the sentence on whether the maps depend on the weights.
    """
    facts = explanation.facts
    words = facts["words"]
    first = words[:1].upper()
    print_line(
        f"{target}: {len(explanation.tiles)} tiles, "
        f"{facts['model']} on {facts['cut']}, "
        f"{facts['seconds']:.1f} s. "
        f"{first}{words[1:]}."
    )
    depends = facts["sanity"]["depends_on_weights"]
    style = "dim" if depends else "yellow"
    print_line(f"  {sanity}", style=style)
    print_line(f"  {explanation.folder}")


def print_prediction(facts: Mapping[str, Any], path: Path) -> None:
    """Print what was predicted, how the intervals held, and where the files lie.

    Parameters
    ----------
    facts : what `predict_place` returns.
    """
    print_line(
        f"{facts['target']}: "
        f"{facts['n_tiles']:,} tiles in {facts['n_areas']:,} areas "
        f"by {facts['model']} on {facts['cut']}; "
        f"{facts['n_outside']:,} tiles unlike those in training, "
        f"{facts['n_rejected']:,} rejected."
    )
    coverage = facts["coverage"]
    widest = max((row["nominal"] for row in coverage), default=None)
    for row in coverage:
        if row["nominal"] == widest:
            _print_coverage(row)
    for note in facts["notes"]:
        print_line(f"  note: {note}", style="yellow")
    print_line(f"  {path}")


def _print_coverage(row: Mapping[str, Any]) -> None:
    """Print how intervals of one level held on one split."""
    level = row["level"]
    held = "too few areas to measure whether they hold"
    if row["coverage"] is not None:
        percent = 100 * row["coverage"]
        held = f"held {percent:.0f} % of unseen {level}s"
    print_line(
        f"  {100 * row['nominal']:.0f} % intervals of {level}s: "
        f"{held} on the split {row['split']} "
        f"({row['n_areas']} areas)"
    )
