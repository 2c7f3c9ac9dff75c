"""The commands that ask kept models: `explain` and `predict`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extract.console import Config, Traceback, err, guarded, print_line, print_next, show_progress

if TYPE_CHECKING:
    from models.explaining.explain import TargetExplanation


def explain_(
    config: Config,
    target: Annotated[
        str | None, typer.Option(help="The target to explain; all by default.")
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
            help="A kept model, as 'ridge'; by default the best, or the best of each family in "
            "[models] keep."
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

    Example: roofline explain --config examples/london.toml --target income
    """
    from extract.settings import read_settings
    from models import cli_output
    from models.explaining.explain import ExplainRequest, explain_targets
    from models.explaining.explanations import describe_sanity
    from models.settings import FitSettings

    kept = "stopped. Every explanation that was written is kept."
    with guarded(traceback=traceback, interrupted=kept):
        settings = read_settings(config, FitSettings)
        n_written = 0
        left_out = []
        made: list[TargetExplanation] = []
        request = ExplainRequest(model, cut, tiles, method)
        n_targets = 1 if target else len(settings.targets.names)
        with show_progress("explain", "left out", unit="targets") as show:
            for one in explain_targets(settings, request, target):
                made.append(one)
                n_left_out = sum(each.explanation is None for each in made)
                show(len({each.target for each in made}), n_targets, n_left_out)
        for one in made:
            if one.explanation is None:
                left_out.append(one.note)
                continue
            sanity = describe_sanity(one.explanation.facts["sanity"])
            cli_output.print_explanation(one.target, one.explanation, sanity)
            n_written += 1
        if left_out:
            others = f" ({len(left_out)} targets, this is the first)" if len(left_out) > 1 else ""
            print_line(f"left out{others}: {left_out[0]}", style="yellow")
        is_asked = target or model or cut or tiles != "gallery"
        if is_asked and not n_written:
            raise ValueError("nothing to explain: no target has a kept model that sees pictures.")
        print_next(f"roofline report --config {config}")


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

    Example: roofline predict --config town.toml --tiles new.toml --target income
    """
    from extract.errors import PlaceFeaturesError
    from extract.files.names import encode_name
    from extract.settings import read_settings
    from models import cli_output
    from models.cli.targets import list_targets
    from models.data.place_settings import PlaceSettings
    from models.predicting.extract_features import make_missing
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
        names = list_targets(settings, target)
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
            source = embeddings or place
            with show_progress(name) as show:
                facts = predict_place(
                    settings, source, name, path, model=model, cut=cut, report=show
                )
            cli_output.print_prediction(facts, path)
        print_next(f"look at {path}")
