"""The command `import`, which takes embeddings from elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from extract.console import Config, Traceback, guarded, print_line, print_note, print_warning


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
        from extract.config.cuts import parse_cut
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
