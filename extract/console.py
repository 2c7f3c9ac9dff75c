"""What the command lines of all rooms share: their options, and how an error looks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out, err = Console(), Console(stderr=True)

Config = Annotated[Path, typer.Option("--config", "-c", help="Settings file (TOML).")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")]


@contextmanager
def guarded(*, traceback: bool, interrupted: str) -> Iterator[None]:
    """Run what is inside; an error becomes one message and exit code 1, Ctrl-C a word on what is kept and 130."""
    try:
        yield
    except KeyboardInterrupt:
        _fail(interrupted, code=130)
    except Exception as error:
        if traceback:
            raise
        _fail(str(error) or type(error).__name__, code=1)


def _fail(message: str, *, code: int) -> None:
    err.print(f"error: {message}" if code == 1 else message, style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
