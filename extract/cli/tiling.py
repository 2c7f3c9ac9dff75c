"""The commands that make tiles: `tiles` from rasters, `sample` from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extract.console import Traceback, guarded, print_line, print_next, print_note, show_progress

if TYPE_CHECKING:
    from extract.tiling.make_tiles import MadeTiles


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
    label_code: Annotated[
        str | None, typer.Option(help="Column of the area codes in the labels, if another.")
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(help="Columns of the labels to predict: income,health. May be repeated."),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(help="Columns of the labels that describe areas. May be repeated."),
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

    Example: roofline tiles --surface dsm --out town --areas a.gpkg --area-code CODE
    --labels b.csv --targets income
    """
    with guarded(
        traceback=traceback,
        interrupted="stopped. Every complete block is kept; the same command goes on from there.",
    ):
        from extract.tiling.make_tiles import make_tiles
        from extract.tiling.options import (
            Request,
            check_choice,
            name_columns,
            parse_stretch,
            split_list,
        )

        request = Request(
            surface=surface,
            out=folder,
            terrain=terrain,
            areas=areas,
            area_code=area_code,
            labels=labels,
            label_code=label_code,
            targets=name_columns(targets or [], labels),
            groups=name_columns(groups or [], labels),
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
        _print_made(made)
        if labels is not None:
            print_next(f"roofline all --config {made.settings}")
        else:
            print_next(f"roofline predict --config TRAINED.toml --tiles {made.settings}")


def _print_made(made: MadeTiles) -> None:
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

    Example: roofline sample --out demo
    """
    with guarded(traceback=traceback, interrupted="stopped; run it again to make the city whole."):
        from extract.city.sample import write_city

        path = write_city(folder, n_tiles=tiles, n_areas=areas, seed=seed, is_deep=deep)
        print_line(f"settings: {path}")
        print_next(f"roofline all --config {path}")
