"""Serve the report folder on an address of this machine alone."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from extract.errors import ReportError


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing of each request."""


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of the folder at 127.0.0.1.

    Parameters
    ----------
    port : 0 for any free one.

    Raises
    ------
    ReportError : no page in the folder; the port is taken.
    """
    if not (folder / "index.html").is_file():
        raise ReportError(f"{folder / 'index.html'}: no such file. Run `make report` first.")
    handler = partial(_QuietHandler, directory=str(folder))
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise ReportError(f"port {port}: {error.strerror}. Choose another with --port.") from None
