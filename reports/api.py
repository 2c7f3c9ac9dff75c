"""The report in a notebook: `reports.show`."""

from __future__ import annotations

import html
from pathlib import Path

from extract.api import find_experiment
from extract.errors import ReportError


class Page:
    """A report that a notebook shows as a frame.

    Attributes
    ----------
    path : of the page, to be opened in a browser.
    height : of the frame [pixels].
    """

    def __init__(self, path: Path, *, height: int) -> None:
        self.path = path
        self.height = height

    def _repr_html_(self) -> str:
        """Return a frame that holds the whole page; it needs no server and no file beside."""
        text = html.escape(self.path.read_text(encoding="utf-8"))
        return (
            f'<iframe srcdoc="{text}" title="report" width="100%" height="{self.height}" '
            'style="border:0"></iframe>'
        )

    def __repr__(self) -> str:
        """Return where the page lies."""
        return f"<report: {self.path}>"


def show(experiment: str | Path, *, height: int = 800) -> Page:
    """Return the report of an experiment, which a notebook shows.

    Parameters
    ----------
    experiment : its folder, as `artifacts/town`, or its settings file.
    height : of the frame [pixels].

    Raises
    ------
    ReportError : no report was made yet.
    """
    path = find_experiment(experiment) / "report" / "index.html"
    if not path.is_file():
        raise ReportError(f"{path}: no report. Run `roofline report` first.")
    return Page(path.resolve(), height=height)
