"""The commands that embed tiles and look after the features: `run` and `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extract.console import (
    UNCHANGED,
    Config,
    Traceback,
    guarded,
    print_line,
    print_next,
    print_note,
    print_warning,
    show_progress,
)

if TYPE_CHECKING:
    from extract.run import Summary


def run(
    config: Config,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what other settings made.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="A tile that cannot be used is an error.")
    ] = False,
    retry: Annotated[
        bool,
        typer.Option("--retry", help="Look again at all tiles that were rejected."),
    ] = False,
    allow_random_weights: Annotated[
        bool, typer.Option(help="Take random weights where ImageNet's cannot be had.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Embed every tile; a second call does only what is missing.

    Example: roofline features --config examples/london.toml
    """
    with guarded(
        traceback=traceback,
        interrupted="stopped. Every complete shard is kept; the same command goes on from there.",
    ):
        from extract.run import run_extraction
        from extract.settings import ExtractSettings, read_settings

        with show_progress("extract", "rejected") as show:
            summary = run_extraction(
                read_settings(config, ExtractSettings),
                fresh=fresh,
                strict=strict,
                retry=retry,
                allow_random=allow_random_weights,
                on_tiles=show,
            )
        _print_summary(summary)
        print_next(f"roofline models --config {config}")


def _print_summary(summary: Summary) -> None:
    from extract.store.schema import read_attributes

    print_line(
        f"tiles: {summary.n_tiles}, rejected: {summary.n_rejected}, "
        f"on disk but not in the table: {summary.n_unlisted}"
    )
    for backbone, stage in summary.stages.items():
        seconds = ", ".join(f"{name} {value:.1f}" for name, value in stage["seconds"].items())
        if stage["kept"]:
            print_line(f"{backbone}: {stage['kept']} tiles kept as they were")
        print_line(
            f"{backbone}: {stage['tiles']} tiles, {stage['tiles_per_second']:.1f} tiles/s, "
            f"{stage['precision']} by {stage['runtime']} on {stage['device']}; seconds: {seconds}"
        )
    if summary.verdict:
        print_line(summary.verdict)
    for note in summary.notes:
        print_note(note)
    if not summary.done:
        print_line("nothing to do: every shard is complete")
    for path in sorted(summary.features.glob("*.h5")):
        weights = read_attributes(path)["weights"]
        if weights.startswith("random:"):
            print_warning(
                f"{path.stem} has random weights ({weights}). "
                "Its numbers say nothing about the real network."
            )
    print_line(f"features: {summary.features}")


def verify(
    config: Config,
    set_aside: Annotated[
        bool,
        typer.Option(
            "--set-aside", help="Rename damaged files, so that `features` makes just these."
        ),
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Check every embeddings file against its checksums; exit code 1 where one is damaged.

    Example: roofline verify --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted=UNCHANGED):
        from extract.settings import ExtractSettings, read_settings
        from extract.store.verify import find_damage, move_aside, refuse

        files: list[Path] = []
        settings = read_settings(config, ExtractSettings)
        n_shards = len(list((settings.folder / "features").glob("*/part-*.h5")))
        with show_progress("verify", unit="shards") as show:

            def count(path: Path) -> None:
                files.append(path)
                show(len(files), n_shards)

            damaged = find_damage(settings, on_file=count)
        for damage in damaged:
            print_line(f"{damage.path}: {damage.reason}")
        if set_aside:
            for path in move_aside(damaged):
                print_line(f"set aside: {path}")
        refuse(damaged, is_aside=set_aside)
        print_line(f"verified: {len(files)} shards, all whole")
        print_next(f"roofline models --config {config}")
