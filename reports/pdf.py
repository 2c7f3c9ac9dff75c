"""The page on paper: `report.pdf`, printed by a headless Chromium where the machine has one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from extract.errors import PdfError

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
_DATE = re.compile(rb"\(D:\d{14}[^)]*\)")
_NODE = re.compile(rb"\(node(\d{8})\)")


def find_browser() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def write_pdf(page: Path, path: Path, browser: str) -> None:
    """Print a page; the dates and node numbers that Chromium writes are fixed, so that the same page gives the same bytes.

    Raises
    ------
    PdfError : Chromium failed, or did not end in time.
    """
    with tempfile.TemporaryDirectory() as profile:
        printed = Path(profile) / "report.pdf"
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses root with it
        command = [
            browser,
            *FLAGS,
            *sandbox,
            f"--user-data-dir={profile}/profile",
            f"--print-to-pdf={printed}",
            page.as_uri(),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise PdfError(
                f"report.pdf: {browser} did not end within {_SECONDS} s; print {page} from a browser."
            ) from None
        if done.returncode or not printed.is_file():
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise PdfError(
                f"report.pdf: {browser} did not print ({last[0]}); print {page} from a browser."
            )
        path.with_name(path.name + ".partial").write_bytes(_fix_content(printed.read_bytes()))
    path.with_name(path.name + ".partial").replace(path)


def _fix_content(content: bytes) -> bytes:
    """Replace dates, and number nodes from 0, by as many bytes, so that the offsets in the file hold."""
    first = min((int(number) for number in _NODE.findall(content)), default=0)
    content = _NODE.sub(lambda m: b"(node%08d)" % (int(m[1]) - first), content)
    return _DATE.sub(lambda m: b"(D:19700101000000" + m.group()[17:], content)
