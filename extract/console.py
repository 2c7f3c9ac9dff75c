"""What the command lines share: options, messages, progress, and how an error looks."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.console import Console

out = Console()
err = Console(stderr=True)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_EXTRAS = {"xgboost": "-c constraints.txt -e '.[cpu]'"}  # packages that an extra has

Config = Annotated[Path, typer.Option("--config", "-c", help="Settings file (TOML).")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")]
UNCHANGED = "stopped; nothing was changed."
STAGE = "ROOFLINE_STAGE"  # set in the environment of a stage of `roofline all`


def make_app(help_text: str, *, add_completion: bool = False) -> typer.Typer:
    """Return an app without commands; what its help needs is all that it loads."""
    return typer.Typer(
        rich_markup_mode="markdown",
        no_args_is_help=True,
        add_completion=add_completion,
        pretty_exceptions_enable=False,
        help=help_text,
    )


def run_app(app: typer.Typer, name: str) -> None:
    """Run a command line as the process's own.

    TensorFlow reads how much it may say from the environment alone, when it is loaded; a level
    that the user has set stays.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app(prog_name=name)


def print_line(text: str, *, console: Console = out, style: str = "") -> None:
    """Print text as it is: brackets and numbers in it mean nothing, and no line is broken."""
    console.print(text, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def print_note(text: str) -> None:
    """Print what the user should know on standard error."""
    print_line(f"note: {text}", console=err, style="yellow")


def print_next(command: str) -> None:
    """Print the command to give next on standard error, where no pipe takes it for data.

    A stage of `roofline all` says nothing: the next one follows by itself.
    """
    if STAGE in os.environ:
        return
    print_line(f"next: {command}", console=err, style="cyan")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str) -> None:
    """Print a table that fits the width and loses nothing; with tabs between in a pipe."""
    if not out.is_terminal:
        print_tabs(columns, rows)
        return
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table, markup=False)


def print_tabs(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a heading and a line a row with tabs between, as `cut -f` and awk take them."""
    for row in (columns, *rows):
        cells = [" ".join(cell.split()) for cell in row]
        typer.echo("\t".join(cells))


def print_warning(text: str) -> None:
    """Print what makes results worthless on standard error."""
    print_line(f"WARNING: {text}", console=err, style="bold white on red")


class Show(Protocol):
    """Take how many units are done, how many there are in all, and a count."""

    def __call__(self, done: int, todo: int, count: int = 0) -> None:
        """Show them."""


@contextmanager
def show_progress(name: str, counted: str = "", *, unit: str = "tiles") -> Iterator[Show]:
    """Show a bar with rate and time left; yield the function that moves it.

    Parameters
    ----------
    name : stands before the bar. `counted` : what the count is of, as `rejected`; empty: none.
    """
    from rich import progress

    columns: list[str | progress.ProgressColumn] = [
        progress.TextColumn(name),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    ]
    if counted:
        columns.append(progress.TextColumn(f"{{task.fields[count]}} {counted}"))
    with progress.Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(name, total=None, rate="", count=0)

        def show(done: int, todo: int, count: int = 0) -> None:
            speed = bar.tasks[task].speed
            rate = f"{speed:.1f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=todo, rate=rate, count=count)

        yield show


@contextmanager
def guarded(*, traceback: bool, interrupted: str) -> Iterator[None]:
    """Turn an error into one message and exit code 1, and Ctrl-C into `interrupted` and 130."""
    try:
        yield
    except KeyboardInterrupt:
        # Without an exec, Python ends by the signal and not with the code, where an import was
        # interrupted under `-m`.
        exec("")
        print_line(interrupted, console=err, style="red")
        sys.exit(130)
    except BrokenPipeError:  # the reader, as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if traceback:
            raise
        print_line(f"error: {_describe(error)}", console=err, style="red")
        sys.exit(1)


def _describe(error: Exception) -> str:
    """Return the text of an error, with the remedy of a full disk or a missing package."""
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{os.strerror(error.errno)}. Make room, and give the same command again: "
            "what is finished is kept."
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        wanted = _EXTRAS.get(package, package)
        return f"{package} is not installed, and is needed here. Run `pip install {wanted}`."
    return str(error) or type(error).__name__
