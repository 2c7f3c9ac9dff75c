"""The commands of `python -m extract`: run, verify, plan, doctor, import, tiles, sample, layers."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.table import Table

from extract.config.cuts import PIXELS, parse_cut
from extract.console import (
    Config,
    Traceback,
    guarded,
    out,
    print_line,
    print_note,
    print_warning,
    show_progress,
)
from extract.errors import VectorFileError
from extract.settings import ExtractSettings, read_settings

if TYPE_CHECKING:
    from extract.checks.plan import BackbonePlan, Plan
    from extract.run import Summary
    from extract.tiling.make_tiles import MadeTiles

_UNCHANGED = "stopped; nothing was changed."

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
        typer.Option("--retry", help="Look again at all tiles that were rejected."),
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


@app.command()
def verify(
    config: Config,
    set_aside: Annotated[
        bool,
        typer.Option("--set-aside", help="Rename damaged files, so that `run` makes just these."),
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Check every embeddings file against its checksums; exit code 1 where one is damaged.

    Example: python -m extract verify --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted=_UNCHANGED):
        from extract.store.verify import find_damage, move_aside, refuse

        files: list[Path] = []
        damaged = find_damage(read_settings(config, ExtractSettings), on_file=files.append)
        for damage in damaged:
            print_line(f"{damage.path}: {damage.reason}")
        if set_aside:
            for path in move_aside(damaged):
                print_line(f"set aside: {path}")
        refuse(damaged, is_aside=set_aside)
        print_line(f"verified: {len(files)} shards, all whole")


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
    with guarded(traceback=traceback, interrupted=_UNCHANGED):
        from extract.checks.plan import plan_extraction

        made = plan_extraction(
            read_settings(config, ExtractSettings),
            seconds=seconds,
            allow_random=allow_random_weights,
        )
        if as_json:
            print_line(json.dumps(asdict(made), indent=2))
        else:
            _print_plan(made)


def _print_plan(plan: Plan) -> None:
    table = Table("cut", "row", "missing", "in all", title=f"{plan.tiles} tiles")
    for backbone, part in plan.backbones.items():
        for name, cut in part.cuts.items():
            shape = " × ".join(map(str, cut.shape))
            table.add_row(f"{backbone}/{name}", shape, decimal(cut.bytes), decimal(cut.all))
    out.print(table)
    for backbone, part in plan.backbones.items():
        print_line(f"{backbone}: {_describe_part(part)}")
    if plan.seconds:
        print_line(
            f"time: {plan.seconds:.0f} s, of which loading and compiling "
            f"{plan.startup_seconds:.0f} s; from a probe of {plan.probe_tiles} tiles, "
            f"{plan.verdict}"
        )
    enough = "enough" if plan.disk_free_bytes > plan.bytes else "NOT ENOUGH"
    print_line(
        f"disk: {decimal(plan.bytes)} needed, {decimal(plan.disk_free_bytes)} free: {enough}; "
        f"memory: {decimal(plan.peak_rss_bytes)}"
    )


def _describe_part(part: BackbonePlan) -> str:
    if part.is_imported:
        return "imported, nothing to do"
    if not part.missing_tiles:
        return "complete"
    return (
        f"{part.missing_tiles} tiles in {part.missing_shards} of {part.shards} shards; alone "
        f"{part.seconds:.0f} s, {part.precision} by {part.runtime} on {part.device}"
    )


@app.command()
def doctor(config: Config, traceback: Traceback = False) -> None:
    """Check table, pictures, device, weights, disk and memory; exit code 1 where one is not fit.

    Example: python -m extract doctor --config examples/london.toml
    """
    with guarded(traceback=traceback, interrupted=_UNCHANGED):
        from extract.checks.doctor import examine, refuse

        checks = []
        for check in examine(read_settings(config, ExtractSettings)):
            print_line(f"{check.state:4}  {check.name}: {check.text}")
            checks.append(check)
        refuse(checks)


@app.command("import")
def import_(
    config: Config,
    ids: Annotated[
        str,
        typer.Option(
            help="Ids of the vectors (.npy, .h5, .parquet): FILE, or FILE:NAME (dataset, column)."
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
    version: Annotated[
        str,
        typer.Option(help="Of what made the vectors: models predict from the same alone."),
    ] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace features of that name.")] = False,
    traceback: Traceback = False,
) -> None:
    """Take embeddings from elsewhere into the same layout.

    Example: python -m extract import -c town.toml --ids ids.npy --vectors d.npy --as dino/cls:avg
    """
    with guarded(traceback=traceback, interrupted="stopped. Run it again."):
        from extract.store.import_vectors import import_embeddings

        if len(vectors) != len(set(cuts)) or len(cuts) != len(vectors):
            raise VectorFileError(
                "expected one --as for each --vectors, all different, "
                f"got {len(cuts)} and {len(vectors)}."
            )
        settings = read_settings(config, ExtractSettings)
        sources = dict(zip(cuts, vectors, strict=True))
        done = import_embeddings(settings, sources, ids=ids, version=version, fresh=fresh)
        for cut, taken in done.taken.items():
            print_line(f"{cut}: {taken}")
        for note in done.notes:
            print_note(note)
        print_line(
            f"tiles: {done.n_tiles}, without a vector: {done.n_absent}, not finite: {done.n_bad}; "
            f"vectors that the table lacks: {done.n_extra}"
        )
        if done.n_clipped:
            print_warning(
                f"{done.n_clipped} numbers beyond {settings.extract.dtype} took its largest value. "
                'Set [extract] dtype = "float32" and import again.'
            )
        print_line(f"features: {done.path}")
        unused = [cut for cut in cuts if parse_cut(cut) not in settings.extract.cuts]
        if unused:
            print_line(f"to fit models on them, add to [extract] cuts: {', '.join(unused)}")


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
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse labels that leave an area without one.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away tiles made otherwise.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Cut tiles from elevation rasters, and write the table and the settings for the next command.

    Example: python -m extract tiles --surface dsm --out town --areas a.gpkg --area-code CODE
    --labels b.csv --targets income
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
            strict=strict,
        )
        with show_progress("tiles", "left out") as show:
            made = make_tiles(request, fresh=fresh, on_tiles=show)
        _print_made(made, is_labelled=labels is not None)


def _print_made(made: MadeTiles, *, is_labelled: bool) -> None:
    for note in made.notes:
        print_note(note)
    print_line(
        f"tiles: {made.n_tiles}; left out: {made.n_nodata} for want of data, "
        f"{made.n_outside} in no area (skipped.csv)"
    )
    if made.n_new:
        rate = made.n_new / made.seconds
        print_line(f"read and drawn now: {made.n_new} in {made.seconds:.1f} s, {rate:.0f} tiles/s")
    print_line(f"settings: {made.settings}")
    if is_labelled:
        print_line(f"next: make features CONFIG={made.settings}")


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
            "--deep", help="Settings that train networks too, as the experiment demo-deep."
        ),
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Draw a made city whose best reachable scores are known.

    Example: python -m extract sample --out demo
    """
    with guarded(traceback=traceback, interrupted="stopped; run it again to make the city whole."):
        from extract.city.sample import write_city

        path = write_city(folder, n_tiles=tiles, n_areas=areas, seed=seed, is_deep=deep)
        print_line(f"settings: {path}")


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
        print_line(
            f"{PIXELS}: no network. A cut's layer is the side that pictures are resized to, as "
            f"'{PIXELS}/100:map'."
        )
        return
    from extract.networks.backbones import build_base
    from extract.networks.graph import cuttable_layers, flops_to

    base = build_base(backbone, size=size, with_top=True)
    titles = ("layer", "shape", "avg, max [B]", "flat, map [B]", "GFLOP to there")
    table = Table(*titles, title=f"{backbone}, float16 bytes a tile, {size} × {size}")
    for layer in cuttable_layers(base):
        shape = layer.output.shape[1:]
        table.add_row(
            parse_cut(f"{backbone}/{layer.name}:avg").layer,
            " × ".join(map(str, shape)),
            str(2 * shape[-1]),
            str(2 * math.prod(shape)),
            f"{flops_to(base, layer.name) / 1e9:.2f}",
        )
    out.print(table)


def main() -> None:
    """Run the command line."""
    app()
