"""The command line of models: `fit`, `audit`, `scores`, `list`, `explain` and `predict`."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status

from extract.config.suggestions import suggest
from extract.console import Config, Traceback, err, guarded, out, print_line
from extract.errors import PlaceFeaturesError
from extract.files.names import encode_name
from extract.settings import read_settings

if TYPE_CHECKING:
    from models.settings import FitSettings

# Each command imports what it runs: all together take over a second to load.


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
    """Fit and score every model on every cut, and keep the best.

    A second call does only what is missing or stale.

    Example: python -m models fit --config examples/london.toml
    """
    from models import cli_output
    from models.execution.fit_progress import FitDisplay, FitProgress
    from models.fit import fit_all, plan_all
    from models.settings import FitSettings

    kept = "stopped. Every finished run is kept; the same command goes on with the rest."
    with guarded(traceback=traceback, interrupted=kept):
        settings = read_settings(config, FitSettings)
        if dry_run:
            progress = FitProgress()
            _, planned = plan_all(settings, progress, is_read_only=True)
            cli_output.print_plan(planned, progress)
            return
        with FitDisplay(err, settings.models.strictest) as display:
            scores = fit_all(settings, display)
        cli_output.print_best(scores, settings)
        seconds = [f"{stage} {seconds:.1f} s" for stage, seconds in display.seconds.items()]
        print_line(", ".join(seconds), console=err)
        print_line(str(settings.folder / "scores.csv"))


@app.command()
def audit(config: Config, traceback: Traceback = False) -> None:
    """Look for copies, overlaps, mixed codes and labels that would make the comparison lie.

    Works before there are features, and then says what it could not look for. Exit code 1 where a
    finding is fatal and `[models] accept` does not name it.

    Example: python -m models audit --config examples/london.toml
    """
    from extract.tables.tile_table import read_tiles
    from models import cli_output
    from models.auditing.audit import check_fatal, gather_inputs, list_skipped, run_audit
    from models.data.fold_file import open_folds
    from models.settings import FitSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        asked = settings.models
        tiles = read_tiles(settings)
        opened = open_folds(settings.folder, tiles, asked.fold_options)
        folds = {split: folds.fold for split, folds in opened.folds.items()}
        inputs = gather_inputs(
            settings, tiles, folds, block_m=asked.block_m, buffer_m=asked.buffer_m
        )
        findings = run_audit(settings.folder, inputs, asked.accept)
        cli_output.print_findings(findings, asked.accept)
        for reason, codes in list_skipped(inputs).items():
            print_line(f"not looked for ({reason}): {', '.join(codes)}", style="dim")
        if not findings:
            n_areas = len(inputs.areas)
            print_line(f"{len(inputs):,} tiles in {n_areas:,} areas: nothing found.")
        check_fatal(findings, asked.accept)


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
    """Rank the models of one target: R² by split, intervals, verdicts, and how to read them.

    Whatever is not distinguishable from the best may be as good; whatever is not better than the
    baselines, which see no picture, shows nothing that pictures add.

    Example: python -m models scores --config examples/london.toml --target income
    """
    from models.evaluation.current import open_current
    from models.evaluation.standings import build_standings, render_standings
    from models.settings import FitSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        _list_targets(settings, target)
        with open_current(settings):
            table = build_standings(settings.folder, target, split=split, level=level.value)
            drawn = render_standings(table, settings.folder)
        if csv:
            typer.echo(table.to_csv(index=False), nl=False)
        else:
            out.print(drawn, width=max(out.width, 80), crop=False)


@app.command("list")
def list_(config: Config, traceback: Traceback = False) -> None:
    """List how many targets of each run are done, stale (and why) and missing, and the seconds.

    In a pipe the columns have tabs between them.

    Example: python -m models list --config examples/london.toml
    """
    from models import cli_output
    from models.execution.fit_progress import FitProgress
    from models.fit import plan_all
    from models.settings import FitSettings

    with guarded(traceback=traceback, interrupted="stopped."):
        settings = read_settings(config, FitSettings)
        progress = FitProgress()
        _, planned = plan_all(settings, progress, is_read_only=True)
        for note in progress.notes:
            print_line(note, console=err)
        cli_output.print_grid(planned)


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
    """Draw what the kept models look at: a heat map of each tile, under explain/.

    Orange places raise the prediction, blue ones lower it. The maps are of the model that was
    refitted on all tiles; the predictions beside them, and who is best and worst, are out of fold.

    Example: python -m models explain --config examples/london.toml --target income
    """
    from models import cli_output
    from models.explaining.explain import ExplainRequest, explain_targets
    from models.explaining.explanations import describe_sanity
    from models.settings import FitSettings

    kept = "stopped. Every explanation that was written is kept."
    with guarded(traceback=traceback, interrupted=kept):
        settings = read_settings(config, FitSettings)
        n_written = 0
        request = ExplainRequest(model, cut, tiles, method)
        for one in explain_targets(settings, request, target):
            if one.explanation is None:
                print_line(f"left out: {one.note}", style="yellow")
                continue
            sanity = describe_sanity(one.explanation.facts["sanity"])
            cli_output.print_explanation(one.target, one.explanation, sanity)
            n_written += 1
        is_asked = target or model or cut or tiles != "gallery"
        if is_asked and not n_written:
            raise ValueError("nothing to explain: no target has a kept model that sees pictures.")


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
    """Predict tiles and areas of a new place, with 80 and 95 % intervals.

    A flag marks what is unlike the training tiles. The place is a settings file of its own, with a
    name and [tiles], its table and pictures. Its features are made first, as the model's were and
    of the same weights; [extract] may say where weights lie, batch, shard, runtime, engine,
    scheduler and workers. A killed run goes on where it stopped.

    Example: python -m models predict --config town.toml --tiles new.toml --target income
    """
    from models import cli_output
    from models.predicting.extract_features import make_missing
    from models.predicting.place_settings import PlaceSettings
    from models.predicting.predict import predict_place
    from models.settings import FitSettings
    from models.store.kept_models import find_kept

    kept = "stopped. Every finished part is kept; the same command goes on."
    with guarded(traceback=traceback, interrupted=kept):
        settings = read_settings(config, FitSettings)
        if tiles is not None and embeddings is not None:
            raise ValueError(
                "--tiles and --embeddings: expected one of them; the settings say where the "
                "features lie."
            )
        if embeddings is not None and folder is None:
            raise ValueError("--embeddings: name the folder to write to with --out.")
        place = read_settings(tiles or config, PlaceSettings)
        names = _list_targets(settings, target)
        if tiles is not None:
            find = partial(find_kept, settings.folder, model=model, cut=cut, must_see=False)
            models = [find(name) for name in names]
            say = partial(print_line, console=err)
            try:
                make_missing(settings, place, models, say=say)
            except PlaceFeaturesError as error:  # the extraction has printed its own message
                sys.exit(error.code)
        for name in names:
            path = (folder or place.folder / "predictions") / encode_name(name)
            with err.status(f"{name}: 0 tiles") as status:
                report = partial(_show_tiles, status, name)
                facts = predict_place(
                    settings, embeddings or place, name, path, model=model, cut=cut, report=report
                )
            cli_output.print_prediction(facts, path)


def _list_targets(settings: FitSettings, target: str | None) -> list[str]:
    """Return the target that is asked for, or all; refuse one that the settings do not have."""
    known = settings.targets.names
    if target is None:
        return known
    if target not in known:
        raise ValueError(
            f"target {target!r}: unknown; known: {', '.join(known)}.{suggest(target, known)}"
        )
    return [target]


def _show_tiles(status: Status, target: str, n_tiles: int) -> None:
    status.update(f"{target}: {n_tiles:,} tiles")


def main() -> None:
    """Run the command line."""
    app()
