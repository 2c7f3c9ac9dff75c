"""Two experiments side by side, as a table of the terminal."""

from __future__ import annotations

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from reports.data.formats import format_value, join_words, plural

SCORES = {"r2": "R²", "balanced_accuracy": "balanced accuracy"}


def render_diff(rows: pd.DataFrame) -> Table:
    """Return a table of the best cells, and of the cells that differ by more than chance."""
    is_shown = (rows["what"] == "best of each") | rows["verdict"].isin(["better", "worse"])
    n_alike = int((~is_shown).sum())
    scores = [words for name, words in SCORES.items() if name in set(rows["score"])]
    title = f"{join_words(scores)} of held-out areas, in the first experiment and in the second"
    caption = "Gain: the second less the first. Better or worse: the second, by more than chance."
    if n_alike:
        caption += f"\n{plural(n_alike, 'further cell')} of both differ by no more than chance."
    drawn = Table(
        title=title,
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    for name in ("index", "cell"):
        drawn.add_column(name, overflow="fold")
    for name in ("first", "second", "gain", "95 %"):
        drawn.add_column(name, justify="right", overflow="fold")
    drawn.add_column("verdict", overflow="fold")
    for row in rows[is_shown].to_dict("records"):
        cell = " → ".join(dict.fromkeys((row["first"], row["second"])))
        numbers = [
            format_value(float(row[name])) for name in ("value_first", "value_second", "difference")
        ]
        ends = f"{format_value(float(row['low']))} … {format_value(float(row['high']))}"
        drawn.add_row(
            Text(str(row["target"])),
            Text(cell),
            *numbers,
            ends,
            str(row["verdict"]),
            style="bold" if row["what"] == "best of each" else "",
        )
    return drawn
