"""The commands of `python -m models`: fit, audit, scores, list, explain and predict."""

from __future__ import annotations

from extract.console import make_app, run_app
from models.cli.fitting import audit, fit, list_
from models.cli.reading import scores
from models.cli.using import explain_, predict

__all__ = [
    "app",
    "audit",
    "explain_",
    "fit",
    "list_",
    "main",
    "predict",
    "scores",
]

app = make_app("Embeddings in, scores out: many models on one set of folds, compared honestly.")
app.command()(fit)
app.command()(audit)
app.command()(scores)
app.command("list")(list_)
app.command("explain")(explain_)
app.command()(predict)


def main() -> None:
    """Run the command line."""
    run_app(app, "python -m models")
