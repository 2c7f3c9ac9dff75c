"""What is better is called so among sixty others; what came out best by luck is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm, t

from models.evaluation import evaluate
from models.evaluation.bootstrap import draw_units
from models.evaluation.comparisons import (
    AGAINST_PLACE,
    FUSED_PICTURES,
    FUSED_PLACE,
    compare_cells,
    judge_rows,
)
from models.evaluation.evaluate import CellName, Evaluated, evaluate_level
from models.evaluation.levels import tile_level
from models.evaluation.simultaneous import compare_with, correct_holm, largest_differences
from models.evaluation.training_variance import TRAINING_VARIANCE

CELLS = [CellName(f"net/l{i}:avg", "ridge") for i in range(60)]


def compare(
    seed: int, noise: list[float], cells: list[CellName] = CELLS, n: int = 200
) -> tuple[list[dict], list[dict]]:
    """Compare cells that predict the label under noise, on areas of one tile."""
    rng, units = np.random.default_rng(seed), np.arange(n)
    truth = rng.normal(size=n)
    predicted = truth[:, None] + rng.normal(size=(n, len(noise))) * noise
    level = tile_level(truth, predicted, area=units, unit=units, training_mean=None)
    return compare_cells(evaluate_level(level, cells[: len(noise)], seed=0))


@pytest.fixture
def few_replicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw 500 replicates a set instead of 2,000, where shares and means are over many sets."""
    monkeypatch.setattr(
        evaluate, "draw_units", lambda n_units, seed: draw_units(n_units, seed, 500)
    )


def test_the_better_of_sixty_is_better_than_each_other() -> None:
    rows, (winner,) = compare(0, [0.3] + [0.6] * 59)
    assert {row["verdict"] for row in rows} == {"better"}
    assert {row["best_cut"] for row in rows} == {"net/l0:avg"}
    assert all(row["low"] < row["difference"] < row["high"] for row in rows)
    assert winner["n_not_distinguishable"] == 0
    assert winner["value_corrected"] == pytest.approx(winner["value"], abs=0.02)


def fit_out_of_fold(seed: int, n_embeddings: int, n: int = 60) -> Evaluated:
    """Fit a ridge on each of some embeddings that tell as much, by five folds, and score them."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(n, 6))
    truth = latent.sum(axis=1) / 6**0.5 + 0.5 * rng.normal(size=n)
    turned = latent @ rng.normal(size=(6, 96))
    predicted = np.empty((n, n_embeddings))
    fold = np.arange(n) % 5
    for column in predicted.T:
        X = turned + 5 * rng.normal(size=turned.shape)
        for held in range(5):
            is_held = fold == held
            dual = X[~is_held] @ X[~is_held].T + 2000 * np.eye(np.count_nonzero(~is_held))
            mean = truth[~is_held].mean()
            weights = np.linalg.solve(dual, truth[~is_held] - mean)
            column[is_held] = mean + X[is_held] @ (X[~is_held].T @ weights)
    level = tile_level(truth, predicted, area=np.arange(n), unit=np.arange(n))
    return evaluate_level(level, CELLS[:n_embeddings], seed=0)


@pytest.mark.usefixtures("few_replicates")
@pytest.mark.parametrize("n_embeddings", [2, 6])
def test_embeddings_that_tell_as_much_are_seldom_told_apart(
    n_embeddings: int,
) -> None:
    """The bootstrap alone takes the luck of a training set for a difference."""
    shares = {}
    sets = [fit_out_of_fold(seed, n_embeddings) for seed in range(80)]
    for variance in (1.0, TRAINING_VARIANCE):
        as_if = [replace(one, training_variance=variance) for one in sets]
        found = [compare_cells(one)[0] for one in as_if]
        shares[variance] = np.mean([any(r["verdict"] == "better" for r in rows) for rows in found])
    alone, corrected = shares.values()
    assert alone > 0.12
    assert corrected <= 0.07


@pytest.mark.usefixtures("few_replicates")
def test_intervals_of_fitted_models_hold_what_they_are_over_data_sets() -> None:
    """The bootstrap alone, √3 narrower on the scale of log errors, does not."""
    sets = [fit_out_of_fold(seed, 1) for seed in range(80)]
    columns = ("r2", "r2_low", "r2_high")
    values = np.array([[one.scores[name][0] for name in columns] for one in sets])
    truth = values[:, 0].mean()
    assert np.mean((values[:, 1] <= truth) & (truth <= values[:, 2])) >= 0.9
    errors = np.log(1 - values)
    alone = errors[:, :1] + (errors[:, 1:] - errors[:, :1]) / np.sqrt(TRAINING_VARIANCE)
    of_truth = np.log(1 - truth)
    assert np.mean((alone[:, 0] >= of_truth) & (of_truth >= alone[:, 1])) < 0.85


@pytest.mark.usefixtures("few_replicates")
def test_what_the_luckiest_of_thirty_keeps_is_what_the_others_have() -> None:
    """All are equal, so that what it shows above the mean of all is luck, and gone where it was not
    chosen.
    """
    tables = [compare(seed, [0.8] * 30, n=100) for seed in range(8)]
    shown, kept = (
        np.mean([winner[name] for _, (winner,) in tables]) for name in ("value", "value_corrected")
    )
    usual = shown - np.mean([row["difference"] for rows, _ in tables for row in rows])
    assert shown > usual + 0.15
    assert kept == pytest.approx(usual, abs=0.05)


def test_pictures_are_held_against_place_and_corrected_over_the_targets() -> None:
    cells = [
        CellName("net/l:avg", "ridge"),
        CellName("net/l:avg", "ridge+groups"),
        CellName("none", "location"),
    ]
    tables = {str(seed): compare(seed, [0.9, 0.2, 0.5], cells)[0] for seed in range(3)}
    rows = [
        {"split": "area", "target": target, **row}
        for target, table in tables.items()
        for row in table
    ]
    place = [row for row in judge_rows(rows) if row["kind"] == AGAINST_PLACE]
    assert [row["best_model"] for row in place] == ["ridge"] * 3
    assert [row["verdict"] for row in place] == ["worse"] * 3
    for row in place:
        assert row["p_corrected"] >= 3 * row["p"]
        assert row["critical"] >= t.isf(0.05 / 3 / 2, 199)


@pytest.mark.parametrize("n_units", [40, 120])
def test_an_interval_leaves_out_0_where_the_verdict_says_so_and_nowhere_else(n_units: int) -> None:
    noise = list(np.linspace(0.3, 2.0, 12))
    rows = []
    for seed in range(3):
        found, _ = compare(seed, noise, n=n_units)
        rows += [{"split": "area", "target": str(seed), **row} for row in found]
    judged = judge_rows(rows)
    for row in judged:
        is_told = row["low"] > 0 or row["high"] < 0
        assert is_told == (row["verdict"] != "not distinguishable")
        assert is_told == (row["p_corrected"] < 0.05)
        assert row["low"] < row["difference"] < row["high"]
    assert len({row["verdict"] for row in judged}) == 2


def test_fusion_is_held_against_place_and_against_pictures() -> None:
    names = (
        ("net/l:avg", "ridge"),
        ("net/l:avg", "ridge+groups"),
        ("net/m:avg", "ridge+groups@area"),
        ("none", "location"),
        ("none", "mean"),
    )
    rows = compare(0, [0.9, 0.5, 0.2, 0.21, 0.9], [CellName(*name) for name in names])[0]
    asked = {
        row["kind"]: row
        for row in judge_rows([{"split": "area", "target": "income", **row} for row in rows])
    }
    assert [
        (asked[k]["best_model"], asked[k]["model"], asked[k]["verdict"])
        for k in (FUSED_PLACE, FUSED_PICTURES)
    ] == [
        ("ridge+groups@area", "location", "not distinguishable"),
        ("ridge+groups@area", "ridge", "better"),
    ]


def test_fusion_is_not_asked_where_nothing_is_fused() -> None:
    rows = compare(0, [0.9, 0.5], [CellName("net/l:avg", "ridge"), CellName("none", "location")])[0]
    assert {row["kind"] for row in rows}.isdisjoint({FUSED_PLACE, FUSED_PICTURES})


def test_cells_that_predict_the_same_are_not_distinguishable() -> None:
    units = np.arange(40)
    truth = np.random.default_rng(0).normal(size=40)
    predicted = np.column_stack([0.5 * truth, 0.5 * truth])
    level = tile_level(truth, predicted, area=units, unit=units)
    evaluated = evaluate_level(level, CELLS[:2], seed=0)
    differences = compare_with(0, evaluated, largest_differences(evaluated))
    assert np.isnan(differences.p).all()
    rows, _ = compare_cells(evaluated)
    assert [row["verdict"] for row in rows] == ["not distinguishable"]


def test_one_cell_or_one_unit_gives_no_comparison() -> None:
    assert compare(0, [0.5]) == ([], [])
    assert compare(0, [0.5, 0.6], n=1) == ([], [])


def test_holm_corrects_by_hand_and_leaves_out_what_was_not_tested() -> None:
    np.testing.assert_allclose(
        correct_holm(np.array([0.04, 0.01, np.nan, 0.03])), [0.06, 0.03, np.nan, 0.06]
    )


def test_largest_differences_are_those_of_all_pairs_with_the_tails_of_few_units() -> None:
    rng = np.random.default_rng(0)
    n = 12
    truth = rng.normal(size=n)
    predicted = truth[:, None] + rng.normal(size=(n, 4))
    evaluated = evaluate_level(
        tile_level(truth, predicted, area=np.arange(n), unit=np.arange(n)), CELLS[:4], seed=0
    )
    errors = np.log(1 - evaluated.replicates)
    centred = errors - errors.mean(axis=0)
    pairs = [centred[:, i] - centred[:, j] for i in range(4) for j in range(i)]
    expected = np.max([np.abs(pair) / pair.std() for pair in pairs], axis=0)
    expected *= t.ppf(0.975, n - 1) / norm.ppf(0.975)
    np.testing.assert_allclose(largest_differences(evaluated).ordered, np.sort(expected), rtol=1e-6)
