"""The commands of `python -m extract`, from tiles to embeddings."""

from __future__ import annotations

from extract.cli.importing import import_, raster
from extract.cli.looking import doctor, layers, plan
from extract.cli.running import run, verify
from extract.cli.tiling import sample, tiles
from extract.console import make_app, run_app

__all__ = [
    "app",
    "doctor",
    "import_",
    "layers",
    "main",
    "plan",
    "raster",
    "run",
    "sample",
    "tiles",
    "verify",
]

app = make_app("Tiles in, embeddings out: every picture through frozen networks once, into HDF5.")
app.command()(run)
app.command()(verify)
app.command()(plan)
app.command()(doctor)
app.command("import")(import_)
app.command()(raster)
app.command()(tiles)
app.command()(sample)
app.command()(layers)


def main() -> None:
    """Run the command line."""
    run_app(app, "python -m extract")
