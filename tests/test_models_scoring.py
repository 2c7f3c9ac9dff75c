"""The stage after the fits: files from stored predictions, made again only when something
changed.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.text import Text

from extract.errors import RunFileError
from models.data.fold_assignment import assign_folds
from models.data.folds import FoldOptions, build_folds
from models.evaluation.render_standings import explain_standings, render_standings
from models.evaluation.score_runs import Labels, build_labels, score_runs
from models.evaluation.standings import build_standings
from models.store.runs import run_folder, write_run
from models.store.score_tables import SCORE_COLUMNS, read_scores, read_table
from models.store.scores_file import FILES

N = 120
AREA = np.arange(N) // 4
RUNS = [
    ("area", "net/l:avg", "ridge"),
    ("area", "none", "mean"),
    ("random", "net/l:avg", "ridge"),
    ("random", "none", "mean"),
]
NOISE = {"ridge": 0.5, "mean": 2}
OPTIONS = FoldOptions(splits=("area", "random"), n_folds=5, seed=0, block_m=1, buffer_m=0)


class Table:
    """What a tile table gives."""

    def __init__(self) -> None:
        label = np.random.default_rng(0).normal(size=(30, 2))[AREA]
        self.id, self.area, self.xy = pd.Series(np.arange(N)), pd.Series(AREA.astype(str)), None
        self.targets = pd.DataFrame(label, columns=["income", "crime"])
        self.classes = pd.DataFrame(index=self.id.index)

    def labels(self) -> Labels:
        folds = {
            split: build_folds(
                split,
                assign_folds(split, area=AREA, xy=None, targets=None, n_folds=5, seed=0, block_m=1),
                area=AREA,
                xy=None,
                block_m=1,
                buffer_m=0,
            )
            for split in ("area", "random")
        }
        return build_labels(self, folds, OPTIONS)


def write(
    folder: Path, run: tuple[str, str, str], table: Table, *, seed: int = 0, first: int = 0
) -> None:
    rng, frames = np.random.default_rng(seed), []
    for target in reversed(table.targets.columns):
        truth = table.targets[target].to_numpy()
        frames.append(
            pd.DataFrame(
                {
                    "id": np.arange(N)[::-1] + first,
                    "fold": 0,
                    "target": target,
                    "truth": truth[::-1],
                    "prediction": (truth + NOISE[run[2]] * rng.normal(size=N))[::-1],
                }
            )
        )
    cells = {target: {"seconds": 1.5} for target in table.targets}
    write_run(run_folder(folder, *run), pd.concat(frames), None, {"cells": cells})


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    for run in RUNS:
        write(tmp_path, run, Table())
    score_runs(tmp_path, RUNS, Table().labels(), seed=0)
    return tmp_path


def test_files_hold_every_cell_level_and_comparison(scored: Path) -> None:
    scores = read_scores(scored)
    assert list(scores.columns) == list(SCORE_COLUMNS)
    assert len(scores) == 4 * 2 * 2
    assert (scores["fit_seconds"] == 1.5).all()
    income = scores[
        (scores["target"] == "income") & (scores["level"] == "area") & (scores["split"] == "area")
    ].set_index("model")
    assert income.loc["ridge", "r2"] > 0.8
    assert income.loc["mean", "backbone"] == "none"
    comparisons = read_table(scored / "comparisons.csv")
    assert set(comparisons["kind"]) == {"best against other", "pictures against place"}
    assert len(comparisons) == 2 * 2 * 2 * 2
    assert (comparisons[comparisons["level"] == "area"]["verdict"] == "better").all()
    by_tiles = read_table(scored / "scores_by_tiles.csv")
    assert by_tiles[by_tiles["tiles_low"] == 2]["n"].tolist() == [30] * 8
    assert read_table(scored / "winners.csv")["best_model"].tolist() == ["ridge"] * 8


def test_nothing_is_made_again_until_a_prediction_a_label_or_the_seed_changes(scored: Path) -> None:
    def is_made_again(labels: Labels, seed: int = 0) -> bool:
        before = [(scored / name).stat().st_mtime_ns for name in FILES]
        score_runs(scored, RUNS, labels, seed=seed)
        return before != [(scored / name).stat().st_mtime_ns for name in FILES]

    table = Table()
    assert not is_made_again(table.labels())
    write(scored, RUNS[0], table, seed=9)
    assert is_made_again(table.labels())
    table.targets.loc[5, "crime"] += 1
    assert is_made_again(table.labels())
    assert is_made_again(table.labels(), seed=1)
    (scored / "comparisons.csv").write_text("edited")
    assert is_made_again(table.labels(), seed=1)


def test_training_means_leave_the_held_fold_out() -> None:
    table = Table()
    labels, fold = (
        table.labels(),
        assign_folds("area", area=AREA, xy=None, targets=None, n_folds=5, seed=0, block_m=1),
    )
    expected = [table.targets["income"][fold != f].mean() for f in fold]
    np.testing.assert_allclose(labels.training_means["area"][:, 0], expected)


def test_predictions_of_tiles_that_the_table_does_not_have_are_refused(scored: Path) -> None:
    write(scored, RUNS[0], Table(), first=3)
    with pytest.raises(
        RunFileError, match=r"predicts 3 tiles that the table does not have.*make models"
    ):
        score_runs(scored, RUNS, Table().labels(), seed=0)


def test_standings_put_the_splits_side_by_side_and_keep_their_numbers_whole_on_80_columns(
    scored: Path,
) -> None:
    table = build_standings(scored, "income", split=None, level="area")
    assert table["model"].tolist() == ["ridge", "mean"]
    assert table["verdict"].tolist() == ["best", "worse"]
    assert {"r2 random", "r2 area", "r2_low", "r2_high"} <= set(table.columns)
    text = io.StringIO()
    reading = map(Text, explain_standings(table, scored))
    Console(file=text, width=80).print(render_standings(table), *reading, sep="\n")
    assert max(map(len, text.getvalue().splitlines())) <= 80
    for row in table.to_dict("records"):
        assert f"{row['r2_low']:.3f} … {row['r2_high']:.3f}".replace("-", "−") in text.getvalue()
    for word in ("net/l:avg", "(no network)", "Pictures against place", "it flatters", "all pairs"):
        assert word in text.getvalue()


@pytest.mark.parametrize(
    ("split", "level", "text"), [("block", "area", "not scored"), (None, "blocks", "no scores")]
)
def test_standings_of_what_was_not_scored_are_refused(
    scored: Path, split: str | None, level: str, text: str
) -> None:
    with pytest.raises(RunFileError, match=text):
        build_standings(scored, "income", split=split, level=level)


def test_standings_without_comparisons_say_what_to_run(scored: Path) -> None:
    (scored / "comparisons.csv").unlink()
    with pytest.raises(RunFileError, match="make models"):
        build_standings(scored, "income", split=None, level="area")
