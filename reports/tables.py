"""The leaderboard: every cell, by target and split, the best first; as a table and as files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from reports.collect import SPLITS, Collected

COLUMNS = [
    "target",
    "split",
    "rank",
    "model",
    "cut",
    "r2",
    "r2_low",
    "r2_high",
    "rmse",
    "nrmse",
    "mae",
    "spearman",
    "r2_tile",
    "n",
    "fit_seconds",
]
DASH = "–"


def build_leaderboard(collected: Collected) -> pd.DataFrame:
    """Give one row a cell: by target, strictest split first, then by R² at the reported level, NaN last."""
    keys = ["split", "cut", "model", "target"]
    scores = collected.scores
    tile = scores.loc[scores["level"] == "tile", [*keys, "r2"]].rename(columns={"r2": "r2_tile"})
    rows = scores[scores["level"] == collected.level].merge(tile.drop_duplicates(keys), on=keys, how="left")
    order = {name: i for i, name in enumerate(collected.targets)}
    strictness = {name: i for i, name in enumerate(SPLITS)}
    rows = rows.assign(_t=rows["target"].map(order), _s=rows["split"].map(strictness).fillna(len(SPLITS)))
    rows = rows.sort_values(["_t", "_s", "split", "r2"], ascending=[True, True, True, False], na_position="last")
    rows["rank"] = rows.groupby(["target", "split"]).cumcount() + 1
    return rows[COLUMNS].reset_index(drop=True)


def write_leaderboard(board: pd.DataFrame, folder: Path) -> None:
    """Write `leaderboard.csv` (all digits), `.md` and `.tex` (three decimals)."""
    board.to_csv(folder / "leaderboard.csv", index=False)
    text = board.map(format_value)
    (folder / "leaderboard.md").write_text(render_markdown(text), encoding="utf-8")
    (folder / "leaderboard.tex").write_text(render_latex(text), encoding="utf-8")


def render_markdown(text: pd.DataFrame) -> str:
    """Give a GitHub table; `|` and `<` in names cannot break out of their cells."""
    rows = [list(text.columns), ["---"] * text.shape[1], *text.to_numpy().tolist()]
    escaped = ([c.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for c in row] for row in rows)
    return "".join(f"| {' | '.join(row)} |\n" for row in escaped)


def render_latex(text: pd.DataFrame) -> str:
    """Give a booktabs `tabular`, with the characters that TeX reads as commands escaped."""
    rows = [" & ".join(map(_tex, row)) + r" \\" for row in [list(text.columns), *text.to_numpy().tolist()]]
    lines = [
        r"\begin{tabular}{" + "l" * text.shape[1] + "}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def format_value(value: object) -> str:
    """Give a number with three decimals, a count whole, and `–` where there is none."""
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return DASH
        return f"{value:.3f}".replace("-", "−")
    return str(value)


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "−": "$-$",
        "–": "--",
        **{c: "\\" + c for c in "&%$#_{}"},
    }
    return "".join(special.get(c, c) for c in text)
