"""The report folder on this machine's own address, for looking at it in a browser."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from extract.errors import ReportError


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Describe nothing of each request."""


def open_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """Return a server of the folder at 127.0.0.1, reachable from this machine alone.

    Parameters
    ----------
    port : 0 for any free one.

    Raises
    ------
    ReportError : no page in the folder; the port is taken.
    """
    if not (folder / "index.html").is_file():
        raise ReportError(f"{folder / 'index.html'}: no such file. Run `make report` first.")
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=str(folder)))
    except OSError as error:
        raise ReportError(f"port {port}: {error.strerror}. Choose another with --port.") from None
