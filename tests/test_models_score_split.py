"""A cell is scored on its own rows at both levels, and compared on the rows that all have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from models.evaluation.evaluate import CellName
from models.evaluation.score_split import Labelled, score_split
from models.evaluation.scores import score

RNG = np.random.default_rng(0)
AREA = np.repeat(np.arange(40), [1, 2, 5, 12] * 10)
N = len(AREA)
TRUTH = RNG.normal(size=40)[AREA]
RIDGE, POOLED, MEAN = (
    CellName("net/l:avg", "ridge"),
    CellName("net/l:avg", "ridge@area"),
    CellName("none", "mean"),
)
PREDICTED = np.column_stack(
    [TRUTH + RNG.normal(size=N), TRUTH + 0.3 * RNG.normal(size=40)[AREA], np.zeros(N)]
).astype(np.float32)


def run(truth: np.ndarray = TRUTH, predicted: np.ndarray = PREDICTED, unit: np.ndarray = AREA):
    labelled = Labelled(truth=truth, area=AREA, unit=unit, training_mean=np.zeros(N))
    return score_split(labelled, predicted, [RIDGE, POOLED, MEAN], seed=0)


def row_of(scored, cell: CellName, level: str) -> dict:
    (row,) = [r for r in scored.scores if (r["cut"], r["model"], r["level"]) == (*cell, level)]
    return row


def by_area(values: np.ndarray) -> np.ndarray:
    return np.array([values[a == AREA].mean() for a in np.unique(AREA)])


def test_areas_count_once_whatever_their_tiles() -> None:
    row = row_of(run(), RIDGE, "area")
    expected = score(by_area(TRUTH), by_area(PREDICTED[:, 0]), training_mean=np.zeros(40))
    assert row["n"] == 40
    for name, value in expected.items():
        assert row[name] == pytest.approx(value), name
    assert row["r2_low"] < row["r2"] < row["r2_high"]
    assert row["spearman_low"] < row["spearman"] < row["spearman_high"]


def test_areas_of_equal_labels_and_predictions_stay_ties_whatever_their_tiles() -> None:
    """A mean of equal values that is off by rounding would rank areas of one label by their number
    of tiles.
    """
    label, guess = (AREA % 7) / 10 + 0.1, (AREA // 4 % 3) / 10 + 0.1
    predicted = PREDICTED.copy()
    predicted[:, 0] = guess
    row = row_of(run(label, predicted), RIDGE, "area")
    first = np.unique(AREA, return_index=True)[1]
    assert row["spearman"] == pytest.approx(
        spearmanr(label[first], guess[first]).statistic, abs=1e-12
    )


def test_tiles_are_scored_as_they_are_and_models_of_areas_have_none() -> None:
    scored = run()
    row = row_of(scored, RIDGE, "tile")
    assert row["r2"] == pytest.approx(score(TRUTH, PREDICTED[:, 0])["r2"], abs=1e-6)
    assert row["n"] == N
    assert {r["level"] for r in scored.scores if r["model"] == "ridge@area"} == {"area"}


def test_a_missing_label_or_prediction_loses_only_its_row_and_pairs_are_common_rows() -> None:
    truth, predicted = np.where(AREA == 3, np.nan, TRUTH), PREDICTED.copy()
    predicted[AREA == 7, 0] = np.nan
    scored = run(truth, predicted)
    assert row_of(scored, RIDGE, "area")["n"] == 38
    assert row_of(scored, POOLED, "area")["n"] == 39
    assert {row["n"] for row in scored.comparisons if row["level"] == "area"} == {38}
    known = ~np.isin(AREA, (3, 7))
    assert row_of(scored, RIDGE, "tile")["r2"] == pytest.approx(
        score(TRUTH[known], PREDICTED[known, 0])["r2"], abs=1e-6
    )


def test_a_target_without_labels_and_a_cell_without_predictions_give_no_row() -> None:
    assert run(np.full(N, np.nan)).scores == []
    predicted = PREDICTED.copy()
    predicted[:, 0] = np.nan
    scored = run(TRUTH, predicted)
    assert {row["model"] for row in scored.scores} == {"ridge@area", "mean"}
    assert scored.comparisons


def test_areas_of_one_tile_are_counted_and_scored_apart() -> None:
    bins = [row for row in run().by_tiles if row["model"] == "ridge"]
    assert [(row["tiles_low"], row["tiles_high"], row["n"]) for row in bins] == [
        (1, 1, 10),
        (2, 4, 10),
        (5, 9, 10),
        (10, 19, 10),
        (20, None, 0),
    ]
    assert bins[0]["rmse"] > bins[3]["rmse"]
    assert np.isnan(bins[4]["r2"])


def test_blocks_are_drawn_where_they_are_the_units() -> None:
    areas, blocks = run(), run(unit=AREA // 5)
    assert {row["n_units"] for row in areas.comparisons} == {40}
    assert {row["n_units"] for row in blocks.comparisons} == {8}
    assert row_of(areas, RIDGE, "area")["r2"] == row_of(blocks, RIDGE, "area")["r2"]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="tiles × cells"):
        run(predicted=PREDICTED[:, :2])
