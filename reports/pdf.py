"""Print the page as `report.pdf` with a headless Chromium, where the machine has one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from extract.errors import PdfError
from extract.files.atomic import write_atomically

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-pdf-header-footer",
    "--virtual-time-budget=30000",
)
_SECONDS = 120


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    paths = map(shutil.which, NAMES)
    return next((path for path in paths if path), None)


def write_pdf(page: Path, path: Path, browser: str) -> None:
    """Print a page to a PDF.

    Raises
    ------
    PdfError : Chromium failed, or did not end in time.
    """
    remedy = f"print {page} from a browser"
    with write_atomically(path) as partial, tempfile.TemporaryDirectory() as profile:
        options = [*FLAGS, f"--user-data-dir={profile}", f"--print-to-pdf={partial.resolve()}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # Chromium refuses root with its sandbox
            options.append("--no-sandbox")
        command = [browser, *options, page.as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            message = f"report.pdf: {browser} did not end within {_SECONDS} s; {remedy}."
            raise PdfError(message) from None
        if done.returncode or not partial.is_file():
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise PdfError(f"report.pdf: {browser} did not print ({last[0]}); {remedy}.")
