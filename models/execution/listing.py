"""The runs of a grid as lines: a block a cut where people read, so that no name is cut off at 80 columns; else tabs between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

Row = Sequence[str]  # split, cut, model, numbers, and at the end words, maybe many

_GAP = "  "


def tab_runs(columns: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Return a heading and a line a run, with tabs between, as `cut -f`, awk and spreadsheets take them."""
    for row in (columns, *rows):
        yield "\t".join(" ".join(cell.split()) for cell in row)


def block_runs(columns: Row, rows: Sequence[Row], width: int) -> Iterator[str]:
    """Return a block of lines for each cut, its name above; the words at the end of a run stand below it where they do not fit.

    Parameters
    ----------
    columns : names. rows : those of one cut follow each other. width : of a line.
    """
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns) - 1)]
    indent = _GAP + " " * widths[0] + _GAP

    def write(row: Row) -> Iterator[str]:
        sides = [row[0].ljust(widths[0]), row[2].ljust(widths[2])]
        numbers = [cell.rjust(w) for cell, w in zip(row[3:-1], widths[3:], strict=True)]
        line = _GAP + _GAP.join([*sides, *numbers])
        if len(line + _GAP + row[-1]) <= width:
            yield f"{line}{_GAP}{row[-1]}".rstrip()
        else:
            yield from (line.rstrip(), indent + row[-1])

    for number, (cut, of_cut) in enumerate(groupby(rows, key=lambda row: row[1])):
        yield from ([""] if number else list(write(columns)))
        yield f"{columns[1]} {cut}"
        for row in of_cut:
            yield from write(row)
