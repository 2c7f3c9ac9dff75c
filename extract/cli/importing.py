"""The commands `import` and `raster`, which take embeddings from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from extract.console import (
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
    from extract.settings import ExtractSettings
    from extract.store.incoming import ImportSummary


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

    Example: roofline import -c town.toml --ids ids.npy --vectors d.npy --as dino/cls:avg
    """
    with guarded(traceback=traceback, interrupted="stopped. Run it again."):
        from extract.errors import VectorFileError
        from extract.settings import ExtractSettings, read_settings
        from extract.store.import_vectors import import_embeddings

        if len(vectors) != len(set(cuts)) or len(cuts) != len(vectors):
            raise VectorFileError(
                "expected one --as for each --vectors, all different, "
                f"got {len(cuts)} and {len(vectors)}."
            )
        settings = read_settings(config, ExtractSettings)
        sources = dict(zip(cuts, vectors, strict=True))
        done = import_embeddings(settings, sources, ids=ids, version=version, fresh=fresh)
        _print_import(done, settings, cuts, config)


def raster(
    config: Config,
    rasters: Annotated[
        list[Path],
        typer.Option(
            "--raster", help="GeoTIFF, COG, VRT or .asc of any bands, or a folder of GeoTIFFs."
        ),
    ],
    names: Annotated[
        list[str],
        typer.Option(
            "--as", help="Product and version, as alphaearth/2024; one for each --raster."
        ),
    ],
    pool: Annotated[
        str, typer.Option(help="Statistics of each band: mean, sd, min, max, p0 … p100.")
    ] = "",
    map_: Annotated[
        int, typer.Option("--map", min=1, max=64, help="Parts of a tile's side: a map of means.")
    ] = 1,
    code: Annotated[
        str,
        typer.Option(help="What the numbers stand for: stored, or alphaearth (its 8-bit files)."),
    ] = "stored",
    areas: Annotated[
        str | None,
        typer.Option(help="Boundaries: pool over each row's area, not over a tile's square."),
    ] = None,
    area_code: Annotated[str | None, typer.Option(help="Their column of area codes.")] = None,
    areas_crs: Annotated[str | None, typer.Option(help="CRS of boundaries that say none.")] = None,
    crs: Annotated[str | None, typer.Option(help="CRS of rasters that say none.")] = None,
    nodata: Annotated[float | None, typer.Option(help="Value that means no data.")] = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Part of a tile that needs data; else rejected.")
    ] = 0.5,
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace features of that name.")] = False,
    traceback: Traceback = False,
) -> None:
    """Pool the cells of a raster inside each tile or area: any raster becomes an embedding.

    Example: roofline raster -c town.toml --raster dsm.tif --as surface/2024
    """
    with guarded(traceback=traceback, interrupted="stopped. Run it again."):
        from extract.errors import RasterError
        from extract.settings import ExtractSettings, read_settings
        from extract.tiling.options import check_choice
        from extract.zonal.pool_rasters import Reading
        from extract.zonal.pooling import DEFAULT, parse_pools
        from extract.zonal.raster_embeddings import RasterRequest, embed_rasters

        if len(rasters) != len(set(names)) or len(names) != len(rasters):
            raise RasterError(
                "expected one --as for each --raster, all different, "
                f"got {len(names)} and {len(rasters)}."
            )
        if (areas is None) != (area_code is None):
            raise RasterError("--areas and --area-code go together: name both, or neither.")
        usual = "mean" if map_ > 1 else DEFAULT
        request = RasterRequest(
            sources=dict(zip(names, rasters, strict=True)),
            reading=Reading(
                pools=parse_pools(pool or usual),
                code=check_choice("--code", code, "stored", "alphaearth"),
                nodata=nodata,
            ),
            n_parts=map_,
            crs=crs,
            areas=(areas, area_code) if areas and area_code else None,
            areas_crs=areas_crs,
            least=least,
        )
        settings = read_settings(config, ExtractSettings)
        with show_progress("pool", unit="zones") as show:
            done = embed_rasters(settings, request, fresh=fresh, on_zones=show)
        _print_import(done, settings, list(done.taken), config)


def _print_import(
    done: ImportSummary, settings: ExtractSettings, cuts: list[str], config: Path
) -> None:
    from extract.config.cuts import parse_cut

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
    command = f"roofline models --config {config}"
    if unused:
        names = ", ".join(f'"{cut}"' for cut in unused)
        print_next(f"add to [extract] cuts: {names}; then {command}")
    else:
        print_next(command)
