"""The command line of `python -m extract`: run, plan, doctor, verify, import, tiles, sample, layers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from extract.config.cuts import PIXELS, parse_cut
from extract.console import Config, Traceback, err, guarded, out
from extract.errors import VectorFileError
from extract.settings import ExtractSettings, read_settings

app = typer.Typer(
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tiles in, embeddings out: every picture through frozen networks once, into HDF5.",
)


@app.command()
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
        typer.Option("--retry", help="Make shards again whose rejected tiles can be used now."),
    ] = False,
    allow_random_weights: Annotated[
        bool, typer.Option(help="Take random weights where ImageNet's cannot be had.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Embed every tile; a second call does only what is missing.

    Example: python -m extract run --config examples/london.toml
    """
    with guarded(
        traceback=traceback,
        interrupted="stopped. Every complete shard is kept; the same command goes on from there.",
    ):
        from extract.run import run_extraction

        columns = (
            TextColumn("extract"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rejected]} rejected"),
        )
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task("extract", total=None, rate="", rejected=0)

            def show(done: int, todo: int, rejected: int) -> None:
                speed = progress.tasks[task].speed
                rate = f"{speed:.1f} tiles/s" if speed else ""
                progress.update(task, completed=done, total=todo, rejected=rejected, rate=rate)

            summary = run_extraction(
                read_settings(config, ExtractSettings),
                fresh=fresh,
                strict=strict,
                retry=retry,
                allow_random=allow_random_weights,
                on_tiles=show,
            )
        _report(summary)


def _report(summary: Any) -> None:
    from extract.store.embeddings import read_attributes

    out.print(
        f"tiles: {summary.n_tiles}, rejected: {summary.n_rejected}, on disk but not in the table: {summary.n_unlisted}"
    )
    for backbone, stage in summary.stages.items():
        seconds = ", ".join(f"{name} {value:.1f}" for name, value in stage["seconds"].items())
        out.print(
            f"{backbone}: {stage['tiles']} tiles, {stage['tiles_per_second']:.1f} tiles/s, {stage['precision']} by "
            f"{stage['runtime']} on {stage['device']}; seconds: {seconds}",
            soft_wrap=True,
        )
    if summary.verdict:
        out.print(summary.verdict)
    for note in summary.notes:
        err.print(f"note: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    if not summary.done:
        out.print("nothing to do: every shard is complete")
    for path in sorted(summary.features.glob("*.h5")):
        weights = read_attributes(path)["weights"]
        if weights.startswith("random:"):
            err.print(
                f"WARNING: {path.stem} has random weights ({weights}). Its numbers say nothing about the real network.",
                style="bold white on red",
                soft_wrap=True,
            )
    out.print(f"features: {summary.features}", markup=False, soft_wrap=True)


@app.command()
def verify(
    config: Config,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help="Rename damaged files, so that `run` makes just these."),
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Read every embeddings file back against its checksums; exit code 1 where one is damaged or missing.

    Example: python -m extract verify --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped; nothing was changed."):
        from extract.store.verify import find_damage, move_aside, refuse

        n_files = 0

        def count(_: Path) -> None:
            nonlocal n_files
            n_files += 1

        damaged = find_damage(read_settings(config, ExtractSettings), on_file=count)
        for damage in damaged:
            out.print(
                f"{damage.path}: {damage.reason}", markup=False, highlight=False, soft_wrap=True
            )
        for path in move_aside(damaged) if set_aside else ():
            out.print(f"set aside: {path}", markup=False, highlight=False, soft_wrap=True)
        refuse(damaged, is_aside=set_aside)
        out.print(f"verified: {n_files} shards, all whole")


@app.command()
def plan(
    config: Config,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    seconds: Annotated[
        float, typer.Option(help="About how long the probe runs, in seconds.", min=0.1)
    ] = 8.0,
    allow_random_weights: Annotated[bool, typer.Option(help="As for `run`.")] = False,
    traceback: Traceback = False,
) -> None:
    """Predict what `run` would take now, in bytes and time, from a short run on a few tiles.

    Example: python -m extract plan --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped; nothing was changed."):
        import json

        from extract.checks.plan import plan_extraction

        made = plan_extraction(
            read_settings(config, ExtractSettings),
            seconds=seconds,
            allow_random=allow_random_weights,
        )
        if as_json:
            out.print(json.dumps(made, indent=2), markup=False, highlight=False, soft_wrap=True)
        else:
            _show_plan(made)


def _show_plan(made: dict[str, Any]) -> None:
    table = Table("cut", "row", "missing", "in all", title=f"{made['tiles']} tiles")
    for backbone, part in made["backbones"].items():
        for cut, size in part["cuts"].items():
            table.add_row(
                f"{backbone}/{cut}",
                " × ".join(map(str, size["shape"])),
                _bytes(size["bytes"]),
                _bytes(size["all"]),
            )
    out.print(table)
    for backbone, part in made["backbones"].items():
        how = f"{part['precision']} by {part['runtime']} on {part['device']}"
        todo = (
            f"{part['missing_tiles']} tiles in {part['missing_shards']} of {part['shards']} shards"
        )
        out.print(
            f"{backbone}: "
            + (
                "imported, nothing to do"
                if part["is_imported"]
                else f"{todo}; alone {part['seconds']:.0f} s, {how}"
                if part["missing_tiles"]
                else "complete"
            ),
            highlight=False,
            soft_wrap=True,
        )
    if made["seconds"]:
        out.print(
            f"time: {made['seconds']:.0f} s, of which loading and compiling {made['startup_seconds']:.0f} s; "
            f"from a probe of {made['probe_tiles']} tiles, {made['verdict']}",
            highlight=False,
            soft_wrap=True,
        )
    enough = "enough" if made["disk_free_bytes"] > made["bytes"] else "NOT ENOUGH"
    out.print(
        f"disk: {_bytes(made['bytes'])} needed, {_bytes(made['disk_free_bytes'])} free: {enough}; "
        f"memory: {_bytes(made['peak_rss_bytes'])}",
        highlight=False,
        soft_wrap=True,
    )


def _bytes(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


@app.command()
def doctor(config: Config, traceback: Traceback = False) -> None:
    """Check table, pictures, device, weights, disk and memory; exit code 1 where one is not fit.

    Example: python -m extract doctor --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted="stopped; nothing was changed."):
        from extract.checks.doctor import examine, refuse

        checks = []
        for check in examine(read_settings(config, ExtractSettings)):
            out.print(
                f"{check.state:4}  {check.name}: {check.text}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
            checks.append(check)
        refuse(checks)


@app.command("import")
def import_(
    config: Config,
    ids: Annotated[
        str,
        typer.Option(
            help="Ids of the vectors: FILE, or FILE:NAME of a dataset or column. .npy, .h5, .parquet."
        ),
    ],
    vectors: Annotated[
        list[str],
        typer.Option(
            help="Vectors, one row an id: FILE, FILE:NAME, or FILE:BEGINNING* for columns."
        ),
    ],
    cuts: Annotated[
        list[str],
        typer.Option("--as", help="Cut to call them, as dinov2/cls:avg; one for each --vectors."),
    ],
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace features of that name.")] = False,
    traceback: Traceback = False,
) -> None:
    """Take embeddings from elsewhere into the same layout.

    Example: python -m extract import --config town.toml --ids ids.npy --vectors dino.npy --as dinov2/cls:avg
    """
    with guarded(traceback=traceback, interrupted="stopped. Run it again with --fresh."):
        from extract.store.import_vectors import import_embeddings

        if len(vectors) != len(set(cuts)) or len(cuts) != len(vectors):
            raise VectorFileError(
                f"expected one --as for each --vectors, all different, got {len(cuts)} and {len(vectors)}."
            )
        settings = read_settings(config, ExtractSettings)
        done = import_embeddings(
            settings, dict(zip(cuts, vectors, strict=True)), ids=ids, fresh=fresh
        )
        out.print(
            f"tiles: {done.n_tiles}, without a vector: {done.n_absent}, not finite: {done.n_bad}; "
            f"vectors that the table lacks: {done.n_extra}"
        )
        if done.n_clipped:
            err.print(
                f"WARNING: {done.n_clipped} numbers beyond {settings.extract.dtype} took its largest value. "
                'Set [extract] dtype = "float32" and import again.',
                style="bold white on red",
                soft_wrap=True,
            )
        out.print(f"features: {done.path}", markup=False, soft_wrap=True)
        unused = [cut for cut in cuts if parse_cut(cut) not in settings.extract.cuts]
        if unused:
            out.print(
                f"to fit models on them, add to [extract] cuts: {', '.join(unused)}",
                soft_wrap=True,
                markup=False,
            )


@app.command()
def tiles(
    surface: Annotated[
        Path,
        typer.Option(help="Surface model: GeoTIFF, .asc or VRT [m], or a folder of the first two."),
    ],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder to write table, pictures and settings into.")
    ],
    terrain: Annotated[
        Path | None, typer.Option(help="Terrain model on the same grid, to take heights from.")
    ] = None,
    areas: Annotated[
        str | None, typer.Option(help="Polygons: GeoPackage, Shapefile or GeoJSON, or FILE:LAYER.")
    ] = None,
    area_code: Annotated[
        str | None, typer.Option(help="Column of the area codes, in polygons and labels.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="CSV of labels, one row an area.")] = None,
    targets: Annotated[
        str | None, typer.Option(help="Columns of the labels to predict: income,health.")
    ] = None,
    groups: Annotated[
        str | None, typer.Option(help="Columns of the labels that describe areas.")
    ] = None,
    size_m: Annotated[float, typer.Option(help="Side of a tile [m].")] = 200.0,
    stride_m: Annotated[
        float | None,
        typer.Option(help="Distance of the tiles [m]; the size where it is not given."),
    ] = None,
    pixels: Annotated[int, typer.Option(help="Side of a picture.")] = 224,
    channels: Annotated[
        str, typer.Option(help="One or three of height, slope, hillshade, roughness; or colours.")
    ] = "height,slope,hillshade",
    kind: Annotated[str, typer.Option("--format", help="png (8 bit) or tiff (float32).")] = "png",
    stretch: Annotated[
        list[str] | None,
        typer.Option(help="Values that become 0 and 255 in all tiles: height=0:40."),
    ] = None,
    opening_m: Annotated[
        float, typer.Option(help="Side of the square that finds the ground without a terrain [m].")
    ] = 80.0,
    max_nodata: Annotated[float, typer.Option(help="Largest share of a tile without data.")] = 0.1,
    assign: Annotated[
        str, typer.Option(help="A tile's area: of its centre, or of the largest overlap.")
    ] = "centre",
    crs: Annotated[
        str | None, typer.Option(help="CRS of rasters that say none, as EPSG:27700.")
    ] = None,
    areas_crs: Annotated[str | None, typer.Option(help="CRS of polygons that say none.")] = None,
    nodata: Annotated[
        float | None, typer.Option(help="Value of cells without data, where rasters do not say it.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads; one a core where it is not given.", min=1)
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away tiles made otherwise.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Cut tiles from elevation rasters, and write the table and the settings for the next command.

    Example: python -m extract tiles --surface dsm --areas a.gpkg --area-code CODE --labels b.csv --targets income --out town
    """
    with guarded(
        traceback=traceback,
        interrupted="stopped. Every complete block is kept; the same command goes on from there.",
    ):
        from extract.tiling.make_tiles import make_tiles
        from extract.tiling.options import Request, check_choice, parse_stretch, split_list

        request = Request(
            surface=surface,
            out=folder,
            terrain=terrain,
            areas=areas,
            area_code=area_code,
            labels=labels,
            targets=split_list(targets),
            groups=split_list(groups),
            size_m=size_m,
            stride_m=size_m if stride_m is None else stride_m,
            pixels=pixels,
            channels=split_list(channels),
            format=check_choice("--format", kind, "png", "tiff"),
            stretch=parse_stretch(stretch or []),
            opening_m=opening_m,
            max_nodata=max_nodata,
            rule=check_choice("--assign", assign, "centre", "overlap"),
            crs=crs,
            areas_crs=areas_crs,
            nodata=nodata,
            workers=workers,
        )
        columns = (
            TextColumn("tiles"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[skipped]} left out"),
        )
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task("tiles", total=None, rate="", skipped=0)

            def show(done: int, todo: int, skipped: int) -> None:
                speed = progress.tasks[task].speed
                progress.update(
                    task,
                    completed=done,
                    total=todo,
                    skipped=skipped,
                    rate=f"{speed:.0f} tiles/s" if speed else "",
                )

            made = make_tiles(request, fresh=fresh, on_tiles=show)
        for note in made.notes:
            err.print(
                f"note: {note}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )
        out.print(
            f"tiles: {made.n_tiles}; left out: {made.n_nodata} for want of data, {made.n_outside} in no area (skipped.csv)"
        )
        if made.n_new:
            out.print(
                f"read and drawn now: {made.n_new} in {made.seconds:.1f} s, {made.n_new / made.seconds:.0f} tiles/s"
            )
        out.print(f"settings: {made.settings}", soft_wrap=True, markup=False, highlight=False)
        if request.labels:
            out.print(
                f"next: make features CONFIG={made.settings}",
                soft_wrap=True,
                markup=False,
                highlight=False,
            )


@app.command()
def sample(
    folder: Annotated[Path, typer.Option("--out", help="Folder to write the city into.")] = Path(
        "demo"
    ),
    tiles: Annotated[int, typer.Option(help="How many tiles.")] = 600,
    areas: Annotated[int, typer.Option(help="How many areas.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed, another city.")] = 0,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="ExtractSettings that train networks too, as the experiment demo-deep."
        ),
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Draw a made city whose best reachable scores are known.

    Example: python -m extract sample --out demo
    """
    with guarded(traceback=traceback, interrupted="stopped; run it again to make the city whole."):
        from extract.city.sample import write_city

        out.print(
            f"settings: {write_city(folder, n_tiles=tiles, n_areas=areas, seed=seed, is_deep=deep)}",
            markup=False,
            soft_wrap=True,
        )


@app.command()
def layers(
    backbone: Annotated[str, typer.Argument(help="As vgg16, resnet50v2, mobilenetv2.")],
    size: Annotated[int, typer.Option(help="Side of the pictures, in pixels.")] = 224,
    traceback: Traceback = False,
) -> None:
    """List the layers of a backbone that can be cut, with sizes and FLOPs to there.

    Example: python -m extract layers vgg16
    """
    with guarded(traceback=traceback, interrupted="stopped."):
        _list_layers(backbone, size)


def _list_layers(backbone: str, size: int) -> None:
    if backbone == PIXELS:
        out.print(
            f"{PIXELS}: no network. A cut's layer is the side that pictures are resized to, as '{PIXELS}/100:map'.",
            markup=False,
        )
        return
    from extract.networks.backbones import build_base, cuttable_layers, flops_to

    base = build_base(backbone, size=size, with_top=True)
    table = Table(
        "layer",
        "shape",
        "avg, max [B]",
        "flat, map [B]",
        "GFLOP to there",
        title=f"{backbone}, float16 bytes a tile, {size} × {size}",
    )
    for layer in cuttable_layers(base):
        shape = tuple(layer.output.shape[1:])
        n_values = 1
        for side in shape:
            n_values *= side
        table.add_row(
            str(parse_cut(f"{backbone}/{layer.name}:avg").layer),
            " × ".join(map(str, shape)),
            str(2 * shape[-1]),
            str(2 * n_values),
            f"{flops_to(base, layer.name) / 1e9:.2f}",
        )
    out.print(table)


def main() -> None:
    """Run the command line."""
    app()
