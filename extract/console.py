"""What the command lines of all rooms share: their options, and how an error looks."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Config = Annotated[Path, typer.Option("--config", "-c", help="Settings file (TOML).")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")]


@contextmanager
def guarded(*, traceback: bool, interrupted: str) -> Iterator[None]:
    """Run what is inside; an error becomes one message and exit code 1, Ctrl-C a word on what is kept and 130."""
    try:
        yield
    except KeyboardInterrupt:
        _fail(interrupted, code=130)
    except BrokenPipeError:  # whoever read, as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if traceback:
            raise
        _fail(_describe(error), code=1)


def _describe(error: Exception) -> str:
    """Describe what went wrong; a full disk says neither which it is nor what to do."""
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{os.strerror(error.errno)}. Make room, and give the same command again: what is finished is kept."
    return str(error) or type(error).__name__


def _fail(message: str, *, code: int) -> None:
    if code == 130:
        exec(
            ""
        )  # Python would otherwise end by the signal, without the code, where an import was interrupted under `-m`
    err.print(
        f"error: {message}" if code == 1 else message,
        style="red",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    sys.exit(code)
