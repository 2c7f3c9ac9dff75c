"""Print what the commands of models say: plans, findings, scores, explanations, predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
import typer
from rich.table import Table

from extract.console import out, print_line
from models.auditing.findings import Finding
from models.evaluation.standings import BALANCED
from models.execution.fit_progress import FitProgress, format_seconds
from models.execution.keep_models import rank_cells
from models.settings import FitSettings
from models.store.cells import Planned
from models.store.runs import join_cut
from models.store.staleness import count_reasons

Row = Sequence[str]  # split, cut, model, numbers, and last a text that may be long

_GAP = "  "
_SEVERITY_STYLES = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}


def print_plan(planned: list[Planned], progress: FitProgress) -> None:
    """Print what would be fitted, and about how long it would take."""
    for note in progress.notes:
        print_line(note)
    expected = progress.expected
    rows = []
    for p in planned:
        if p.missing:
            about = format_seconds(expected.seconds[p.cell])
            rows.append((*p.cell.names, about, ", ".join(p.missing)))
    n_missing = sum(len(p.missing) for p in planned)
    n_done = sum(len(p.done) for p in planned)
    n_stale = sum(len(p.stale) for p in planned)
    _print_runs(("split", "cut", "model", "about", "targets to fit"), rows)
    print_line(f"{n_done} cells done, {n_stale} stale, {n_missing} to fit in {len(rows)} runs.")
    if not n_missing:
        return
    unknown = expected.unknown
    if len(unknown) < len({p.cell.model for p in planned if p.missing}):
        seconds = format_seconds(expected.total(progress.workers))
        noun = "worker" if progress.workers == 1 else "workers"
        print_line(f"About {seconds} with {progress.workers} {noun}, by the runs in this folder.")
    if unknown:
        print_line(f"Unknown how long: {', '.join(unknown)}; nothing like it was fitted here yet.")
    print_line("Nothing was fitted.")


def print_grid(planned: list[Planned]) -> None:
    """Print how many targets of each run are done, stale (and why) and missing."""
    rows = []
    for p in planned:
        n_new = len(p.missing) - len(p.stale)
        seconds = sum(float(one["seconds"]) for one in p.done.values())
        rows.append(
            (
                *p.cell.names,
                str(len(p.done)),
                str(len(p.stale)),
                str(n_new),
                f"{seconds:.1f}" if p.done else "",
                count_reasons(p.stale.values()),
            )
        )
    columns = ("split", "cut", "model", "done", "stale", "missing", "seconds", "why stale")
    _print_runs(columns, rows)


def _print_runs(columns: Row, rows: Sequence[Row]) -> None:
    """Print runs in blocks to be read, or with tabs between where another program reads."""
    is_read = out.is_terminal
    for line in block_runs(columns, rows, out.width) if is_read else tab_runs(columns, rows):
        typer.echo(line)


def tab_runs(columns: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a heading and a line a run, with tabs between, as `cut -f` and awk take them."""
    for row in (columns, *rows):
        yield "\t".join(" ".join(cell.split()) for cell in row)


def block_runs(columns: Row, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Yield a block of lines for each cut, its name above, so that no name is cut off.

    The text at the end of a run stands below it where it does not fit.

    Parameters
    ----------
    columns : names.
    rows : those of one cut follow each other.
    width : of a line [characters].
    """
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for number, (cut, of_cut) in enumerate(groupby(rows, key=lambda row: row[1])):
        if number:
            yield ""
        else:
            yield from _lay_out(columns, widths, width)
        yield f"{columns[1]} {cut}"
        for row in of_cut:
            yield from _lay_out(row, widths, width)


def _lay_out(row: Row, widths: Sequence[int], width: int) -> Iterator[str]:
    cells = [row[0].ljust(widths[0]), row[2].ljust(widths[2])]
    cells += [cell.rjust(w) for cell, w in zip(row[3:-1], widths[3:-1], strict=True)]
    line = _GAP + _GAP.join(cells)
    whole = f"{line}{_GAP}{row[-1]}"
    if len(whole) <= width:
        yield whole.rstrip()
    else:
        yield line.rstrip()
        yield _GAP + " " * widths[0] + _GAP + row[-1]


def print_findings(findings: Sequence[Finding], accept: Sequence[str]) -> None:
    """Print the findings of an audit, each with examples and what to do."""
    for finding in findings:
        is_accepted = finding.severity == "fatal" and finding.code in accept
        accepted = " (accepted)" if is_accepted else ""
        title = f"{finding.severity}{accepted}: {finding.code}"
        print_line(title, style=_SEVERITY_STYLES[finding.severity])
        print_line(f"  {finding.what}")
        if finding.examples:
            print_line(f"  e.g. {'; '.join(finding.examples)}")
        print_line(f"  → {finding.remedy}")


def print_best(scores: pd.DataFrame, settings: FitSettings) -> None:
    """Print the best model of each target on the strictest split."""
    split = settings.models.strictest
    title = f"Best of each target, split {split}"
    numbers = Table("target", "cut", "model", "RMSE", "R²", "95 %", title=title)
    classes = Table("target", "cut", "model", "accuracy", "balanced accuracy", "95 %", title=title)
    for target in settings.targets.names:
        is_asked = (scores["split"] == split) & (scores["target"] == target)
        best = rank_cells(scores[is_asked]).iloc[0]
        cut = str(join_cut(best["backbone"], best["layer"], best["pooling"]))
        if pd.isna(best["rmse"]):
            table, error, score = classes, f"{best['accuracy']:.3f}", BALANCED
        else:
            table, error, score = numbers, f"{best['rmse']:.4g}", "r2"
        interval = f"{best[f'{score}_low']:.3f} … {best[f'{score}_high']:.3f}"
        table.add_row(target, cut, best["model"], error, f"{best[score]:.3f}", interval)
    for table in (numbers, classes):
        if table.row_count:
            out.print(table)


def print_explanation(target: str, explanation: Any, sanity: str) -> None:
    """Print what an explanation shows, and where it lies.

    Parameters
    ----------
    explanation : a `models.explaining.explanations.Explanation`.
    sanity : the sentence on whether the maps depend on the weights.
    """
    facts = explanation.facts
    words = facts["words"]
    print_line(
        f"{target}: {len(explanation.tiles)} tiles, {facts['model']} on {facts['cut']}, "
        f"{facts['seconds']:.1f} s. {words[:1].upper()}{words[1:]}."
    )
    style = "dim" if facts["sanity"]["depends_on_weights"] else "yellow"
    print_line(f"  {sanity}", style=style)
    print_line(f"  {explanation.folder}")


def print_prediction(facts: Mapping[str, Any], path: Path) -> None:
    """Print what was predicted, how the intervals held, and where the files lie.

    Parameters
    ----------
    facts : what `predict_place` returns.
    """
    print_line(
        f"{facts['target']}: {facts['n_tiles']:,} tiles in {facts['n_areas']:,} areas by "
        f"{facts['model']} on {facts['cut']}; {facts['n_outside']:,} tiles unlike those in "
        f"training, {facts['n_rejected']:,} rejected."
    )
    widest = max((row["nominal"] for row in facts["coverage"]), default=None)
    for row in facts["coverage"]:
        if row["nominal"] != widest:
            continue
        held = "too few areas to measure whether they hold"
        if row["coverage"] is not None:
            held = f"held {100 * row['coverage']:.0f} % of unseen {row['level']}s"
        print_line(
            f"  {100 * row['nominal']:.0f} % intervals of {row['level']}s: {held} on the split "
            f"{row['split']} ({row['n_areas']} areas)"
        )
    for note in facts["notes"]:
        print_line(f"  note: {note}", style="yellow")
    print_line(f"  {path}")
