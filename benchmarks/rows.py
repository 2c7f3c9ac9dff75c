"""One measured number beside its goal, and how many of them become a table and a file."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from joblib import cpu_count


@dataclass(frozen=True, slots=True)
class Row:
    """A number: which goal it belongs to, what it was measured on, and what it should be; None
    where it cannot be had.
    """

    item: str
    what: str
    value: float | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    digits: int = 3

    @property
    def is_met(self) -> bool | None:
        """Return whether the goal is reached; None where there is no number or no goal."""
        if self.value is None or (self.at_least is None and self.at_most is None):
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text: item, what, measured, goal, verdict."""
        value = (
            "–"
            if self.value is None
            else f"{self.value:.{1 if self.unit else self.digits}f} {self.unit}".strip()
        )
        goals = [
            f"{sign} {goal:g}"
            for sign, goal in (("≥", self.at_least), ("≤", self.at_most))
            if goal is not None
        ]
        return (
            self.item,
            self.what,
            value,
            ", ".join(goals),
            {True: "met", False: "MISSED", None: ""}[self.is_met],
        )


def render_table(rows: Iterable[Row]) -> str:
    """Render as Markdown with columns of equal width."""
    lines = [("number", "on", "measured", "goal", ""), *(row.cells for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    text = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    return "\n".join(
        [text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]]
    )


def name_machine() -> str:
    """Name the processor, its cores that may be used, and the GPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next(
        (line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine()
    )
    from extract.networks.runtimes.selection import (
        find_gpu,  # loads Keras, which those who measure memory do without
    )

    gpu = find_gpu()
    return f"{cpu_count()} cores of {model}" + (f", {gpu.name}" if gpu else "")


def save_rows(out: Path, rows: Iterable[Row]) -> str:
    """Write the rows and the machine as JSON; give them as a table."""
    listed = list(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": name_machine(),
        "rows": [{**asdict(row), "is_met": row.is_met} for row in listed],
    }
    out.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return f"{name_machine()}\n\n{render_table(listed)}"
