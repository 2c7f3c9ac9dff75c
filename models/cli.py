"""The command line of models: `fit`, `audit`, `scores`, `list`, `explain` and `predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer
from rich.status import Status
from rich.table import Table

from extract.config.suggestions import suggest
from extract.console import Config, Traceback, err, guarded, out
from extract.errors import PlaceFeaturesError
from extract.settings import read_settings
from extract.tables.tile_table import read_tiles
from models.auditing.audit import check_fatal, gather_inputs, list_skipped, run_audit
from models.auditing.findings import Finding
from models.data.fold_file import open_folds
from models.evaluation.standings import BALANCED, build_standings, render_standings
from models.execution.listing import Row, block_runs, tab_runs
from models.execution.progress import Heard
from models.execution.progress_display import Display, name_seconds
from models.fit import fit_all, plan_all
from models.settings import FitSettings
from models.store.kept_models import KeptModel, find_kept
from models.store.runs import join_cut
from models.store.staleness import count_reasons

if TYPE_CHECKING:
    from models.explaining.explain import TargetExplanation
    from models.predicting.place_settings import PlaceSettings


class Level(StrEnum):
    """What a score counts."""

    AREA = "area"
    TILE = "tile"


app = typer.Typer(
    rich_markup_mode="markdown",
    help=__doc__,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def fit(
    config: Config,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be fitted, and fit nothing.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Fit and score every model on every cut, and keep the best; a second call does only what is missing or stale.

    Example: python -m models fit --config examples/london.toml
    """
    with guarded(
        traceback=traceback,
        interrupted="stopped. Every finished run is kept; the same command goes on with the rest.",
    ):
        settings = read_settings(config, FitSettings)
        if dry_run:
            _show_plan(settings)
            return
        with Display(err, settings.models.strictest) as display:
            scores = fit_all(settings, display)
        _show_best(scores, settings)
        err.print(
            ", ".join(f"{name} {seconds:.1f} s" for name, seconds in display.seconds.items()),
            highlight=False,
        )
        out.print(
            f"{settings.folder / 'scores.csv'}", soft_wrap=True, markup=False, highlight=False
        )


def _show_plan(settings: FitSettings) -> None:
    watch = Heard()
    _, planned = plan_all(settings, watch, is_read_only=True)
    for text in watch.notes:
        out.print(text, soft_wrap=True, markup=False, highlight=False)
    rows = [
        (*p.cell.names, name_seconds(watch.expected.seconds[p.cell]), ", ".join(p.missing))
        for p in planned
        if p.missing
    ]
    n_missing = sum(len(p.missing) for p in planned)
    n_done = sum(len(p.done) for p in planned)
    _show_runs(("split", "cut", "model", "about", "targets to fit"), rows)
    out.print(
        f"{n_done} cells done, {sum(len(p.stale) for p in planned)} stale, {n_missing} to fit in {len(rows)} runs.",
        highlight=False,
    )
    if n_missing:
        workers = f"{watch.workers} worker{'s' * (watch.workers > 1)}"
        seconds = name_seconds(watch.expected.total(watch.workers))
        out.print(
            f"About {seconds} with {workers}, predicted {watch.expected.source}. Nothing was fitted.",
            highlight=False,
            soft_wrap=True,
        )


def _show_runs(columns: Row, rows: Sequence[Row]) -> None:
    """Print runs to be read, or where another program reads, with tabs between."""
    for line in (
        block_runs(columns, rows, out.width) if out.is_terminal else tab_runs(columns, rows)
    ):
        typer.echo(line)


@app.command()
def audit(config: Config, traceback: Traceback = False) -> None:
    """Look for what would make the comparison lie: copies, overlaps, mixed codes, labels that do not belong.

    Works before there are features, and then says what it could not look for. Exit code 1 where a finding is fatal and
    `[models] accept` does not name it.

    Example: python -m models audit --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        tiles = read_tiles(settings)
        folds = {
            split: folds.fold
            for split, folds in open_folds(
                settings.folder, tiles, settings.models.fold_options
            ).folds.items()
        }
        inputs = gather_inputs(settings, tiles, folds, buffer_m=settings.models.buffer_m)
        findings = run_audit(settings.folder, inputs, settings.models.accept)
        _show_findings(findings, settings.models.accept)
        for reason, codes in list_skipped(inputs).items():
            out.print(
                f"not looked for ({reason}): {', '.join(codes)}",
                markup=False,
                highlight=False,
                style="dim",
                soft_wrap=True,
            )
        if not findings:
            out.print(
                f"{len(inputs):,} tiles in {len(inputs.areas):,} areas: nothing found.",
                markup=False,
                highlight=False,
            )
        check_fatal(findings, settings.models.accept)


def _show_findings(findings: list[Finding], accept: list[str]) -> None:
    styles = {"fatal": "bold red", "warning": "yellow", "note": "cyan"}
    for finding in findings:
        is_accepted = finding.severity == "fatal" and finding.code in accept
        out.print(
            f"{finding.severity}{' (accepted)' if is_accepted else ''}: {finding.code}",
            style=styles[finding.severity],
            markup=False,
            highlight=False,
        )
        for line in (
            finding.what,
            f"e.g. {'; '.join(finding.examples)}" if finding.examples else "",
            f"→ {finding.remedy}",
        ):
            if line:
                out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _show_best(scores: pd.DataFrame, settings: FitSettings) -> None:
    title = f"Best of each target, split {settings.models.strictest}"
    numbers = Table("target", "cut", "model", "RMSE", "R²", "95 %", title=title)
    classes = Table("target", "cut", "model", "accuracy", "balanced accuracy", "95 %", title=title)
    for target in settings.targets.names:
        best = _ranked(scores[scores["split"] == settings.models.strictest], target).iloc[0]
        table = classes if pd.isna(best["rmse"]) else numbers
        table.add_row(target, _cut(best), best["model"], *_numbers(best))
    for table in (numbers, classes):
        if table.row_count:
            out.print(table)


@app.command()
def scores(
    config: Config,
    target: Annotated[str, typer.Option(help="The target to rank models for.")],
    split: Annotated[
        str | None,
        typer.Option(help="Split that ranks: random, area or block; the strictest else."),
    ] = None,
    level: Annotated[
        Level, typer.Option(help="What is scored: areas, or single tiles.")
    ] = Level.AREA,
    csv: Annotated[bool, typer.Option("--csv", help="Print the table as CSV.")] = False,
    traceback: Traceback = False,
) -> None:
    """Rank the models of one target, best first: R² by split, intervals, verdicts, and how to read them.

    Whatever is not distinguishable from the best may be as good; whatever is not better than the baselines, which see no
    picture, shows nothing that pictures add.

    Example: python -m models scores --config examples/london.toml --target income
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        known = settings.targets.names
        if target not in known:
            raise ValueError(
                f"target {target!r}: unknown; known: {', '.join(known)}.{suggest(target, known)}"
            )
        table = build_standings(settings.folder, target, split=split, level=level.value)
        if csv:
            typer.echo(table.to_csv(index=False), nl=False)
        else:
            out.print(
                render_standings(table, settings.folder), width=max(out.width, 80), crop=False
            )


@app.command("list")
def list_(config: Config, traceback: Traceback = False) -> None:
    """List the grid: how many targets of each run are done, stale (and why) and missing, and the seconds it took.

    In a pipe the columns have tabs between them.

    Example: python -m models list --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        heard = Heard()
        rows = []
        for p in plan_all(settings, heard, is_read_only=True)[1]:
            seconds = sum(float(one["seconds"]) for one in p.done.values())
            n = (len(p.done), len(p.stale), len(p.missing) - len(p.stale))
            rows.append(
                (
                    *p.cell.names,
                    *map(str, n),
                    f"{seconds:.1f}" if p.done else "",
                    count_reasons(p.stale.values()),
                )
            )
        for text in heard.notes:
            err.print(text, soft_wrap=True, markup=False, highlight=False)
        _show_runs(
            ("split", "cut", "model", "done", "stale", "missing", "seconds", "why stale"), rows
        )


@app.command("explain")
def explain_(
    config: Config,
    target: Annotated[
        str | None, typer.Option(help="The target to explain; every one else.")
    ] = None,
    tiles: Annotated[
        str,
        typer.Option(
            help="Ids of tiles with commas between, or 'gallery': some across the range of "
            "the truth, the best and the worst predicted."
        ),
    ] = "gallery",
    model: Annotated[
        str | None,
        typer.Option(
            help="A kept model, as 'ridge'; else the best, or of each that [models] "
            "keep names, the best."
        ),
    ] = None,
    cut: Annotated[str | None, typer.Option(help="Its cut, as 'vgg16/block5_pool:avg'.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="exact, gradients, occlusion; auto takes the best that the model allows."
        ),
    ] = "auto",
    traceback: Traceback = False,
) -> None:
    """Draw what the kept models look at: a heat map of each tile, and the map over the tile, under explain/.

    Orange places raise the prediction, blue ones lower it. The maps are of the model that was refitted on all tiles; the
    predictions beside them, and who is best and worst, are out of fold.

    Example: python -m models explain --config examples/london.toml --target income
    """
    from models.explaining.explain import (  # loads SciPy, which the other commands need not wait for
        ExplainRequest,
        explain_targets,
    )

    with guarded(
        traceback=traceback, interrupted="stopped. Every explanation that was written is kept."
    ):
        settings = read_settings(config, FitSettings)
        n = 0
        for one in explain_targets(settings, ExplainRequest(model, cut, tiles, method), target):
            _show_explained(one)
            n += one.explanation is not None
        if not n and (target or model or cut or tiles != "gallery"):
            raise ValueError("nothing to explain: no target has a kept model that sees pictures.")


def _show_explained(one: TargetExplanation) -> None:
    if one.explanation is None:
        out.print(
            f"left out: {one.note}", soft_wrap=True, markup=False, highlight=False, style="yellow"
        )
        return
    from models.explaining.explanations import describe_sanity

    facts = one.explanation.facts
    sanity = one.explanation.facts["sanity"]
    out.print(
        f"{one.target}: {len(one.explanation.tiles)} tiles, {facts['model']} on {facts['cut']}, {facts['seconds']:.1f} s. "
        f"{facts['words'][:1].upper()}{facts['words'][1:]}.",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    out.print(
        f"  {describe_sanity(sanity)}",
        soft_wrap=True,
        markup=False,
        highlight=False,
        style="dim" if sanity["depends_on_weights"] else "yellow",
    )
    out.print(f"  {one.explanation.folder}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def predict(
    config: Config,
    target: Annotated[
        str | None, typer.Option(help="The target to predict; every one else.")
    ] = None,
    tiles: Annotated[
        Path | None,
        typer.Option(help="Settings of the new place; the experiment's own tiles else."),
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Features alone instead: a backbone's .h5, or its folder.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A kept model, as 'ridge'; the best kept one else.")
    ] = None,
    cut: Annotated[str | None, typer.Option(help="Its cut, as 'vgg16/block5_pool:avg'.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder to write to, a folder a target inside; predictions/ of the place else.",
        ),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Predict tiles and areas of a new place, with 80 and 95 % intervals and a flag for what is unlike the training tiles.

    The place is a settings file of its own, with a name and [tiles], its table and pictures. Its features are made first, as the
    model's were and of the same weights; [extract] may say where weights lie, batch, shard, runtime, engine, scheduler and
    workers. A killed run goes on where it stopped.

    Example: python -m models predict --config town.toml --tiles new.toml --target income
    """
    with guarded(
        traceback=traceback,
        interrupted="stopped. Every finished part is kept; the same command goes on.",
    ):
        from models.predicting.place_settings import PlaceSettings
        from models.predicting.predict import predict_place

        settings = read_settings(config, FitSettings)
        if tiles is not None and embeddings is not None:
            raise ValueError(
                "--tiles and --embeddings: expected one of them; the settings say where the features lie."
            )
        if embeddings is not None and folder is None:
            raise ValueError("--embeddings: name the folder to write to with --out.")
        there = read_settings(tiles or config, PlaceSettings)
        known = settings.targets.names
        if target is not None and target not in known:
            raise ValueError(
                f"target {target!r}: unknown; known: {', '.join(known)}.{suggest(target, known)}"
            )
        names = known if target is None else [target]
        if tiles is not None:
            _make_features(
                settings,
                there,
                [
                    find_kept(settings.folder, n, model=model, cut=cut, must_see=False)
                    for n in names
                ],
            )
        for name in names:
            path = (folder or there.folder / "predictions") / name
            with err.status(f"{name}: 0 tiles") as status:
                report = partial(_show_tiles, status, name)
                facts = predict_place(
                    settings, embeddings or there, name, path, model=model, cut=cut, report=report
                )
            _show_predicted(facts, path)


def _make_features(settings: FitSettings, there: PlaceSettings, models: list[KeptModel]) -> None:
    """Make what the models need of a place; the extraction has told its own error, which is not told twice."""
    from models.predicting.extract_features import make_missing

    try:
        make_missing(
            settings,
            there,
            models,
            say=partial(err.print, soft_wrap=True, markup=False, highlight=False),
        )
    except PlaceFeaturesError as error:
        sys.exit(error.code)


def _show_tiles(status: Status, target: str, n_tiles: int) -> None:
    status.update(f"{target}: {n_tiles:,} tiles")


def _show_predicted(facts: dict[str, Any], path: Path) -> None:
    out.print(
        f"{facts['target']}: {facts['n_tiles']:,} tiles in {facts['n_areas']:,} areas by {facts['model']} on "
        f"{facts['cut']}; {facts['n_outside']:,} tiles unlike those in training, "
        f"{facts['n_rejected']:,} rejected.",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    for row in facts["coverage"]:
        if row["nominal"] == max(one["nominal"] for one in facts["coverage"]):
            held = (
                "too few areas to measure whether they hold"
                if row["coverage"] is None
                else f"held {100 * row['coverage']:.0f} % of unseen {row['level']}s"
            )
            out.print(
                f"  {100 * row['nominal']:.0f} % intervals of {row['level']}s: {held} on the split {row['split']} "
                f"({row['n_areas']} areas)",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )
    for note in facts["notes"]:
        out.print(f"  note: {note}", soft_wrap=True, markup=False, highlight=False, style="yellow")
    out.print(f"  {path}", soft_wrap=True, markup=False, highlight=False)


def _ranked(scores: pd.DataFrame, target: str) -> pd.DataFrame:
    part = scores[(scores["target"] == target) & (scores["level"] == "area")]
    return part.loc[part["rmse"].fillna(-part[BALANCED]).sort_values(kind="stable").index]


def _cut(row: pd.Series) -> str:
    return join_cut(row["backbone"], row["layer"], row["pooling"])


def _numbers(row: pd.Series) -> list[str]:
    if pd.isna(row["rmse"]):
        return [
            f"{row['accuracy']:.3f}",
            f"{row[BALANCED]:.3f}",
            f"{row[f'{BALANCED}_low']:.3f} … {row[f'{BALANCED}_high']:.3f}",
        ]
    return [f"{row['rmse']:.4g}", f"{row['r2']:.3f}", f"{row['r2_low']:.3f} … {row['r2_high']:.3f}"]


def main() -> None:
    """Run the command line."""
    app()
