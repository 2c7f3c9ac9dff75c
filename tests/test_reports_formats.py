"""Numbers and lists as the page writes them."""

from __future__ import annotations

import pytest

from reports.data.formats import (
    format_ends,
    format_figures,
    format_number,
    format_percent,
    join_words,
    plural,
)
from reports.sections.model_card import describe_chosen


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.001, "0.00"),
        (-1.25, "−1.25"),
        (float("nan"), "–"),
        (12345.6, "12\u202f346"),
        (2, "2.00"),
    ],
)
def test_numbers_have_two_decimals_and_no_negative_zero(value: float, text: str) -> None:
    assert format_number(value) == text


def test_figures_have_no_exponent() -> None:
    assert format_figures(0.0000236) == "0.0000236"
    assert format_figures(31.04) == "31.0"
    assert format_figures(0.0) == "0"


def test_both_ends_of_an_interval_have_the_decimals_of_the_larger() -> None:
    assert format_ends((2.36e-05, 0.0366)) == "0.0000 … 0.0366"
    assert format_ends((-1.5, 0.25)) == "−1.50 … 0.25"
    assert format_ends((float("nan"), float("nan"))) == "–"


def test_percent_that_is_not_known_is_a_dash() -> None:
    assert format_percent(float("nan")) == "–"
    assert format_percent(0.514) == "51\u202f%"


def test_lists_and_counts_in_words() -> None:
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert join_words(["a"]) == "a"
    assert plural(1, "index") == "1 index"
    assert plural(7, "index") == "7 indices"


def test_what_was_chosen_is_said_over_the_folds() -> None:
    chosen = {"0": {"rounds": 104, "kind": "a"}, "1": {"rounds": 20, "kind": "b"}}
    assert describe_chosen(chosen) == "rounds 20 to 104, kind a or b"
    assert describe_chosen({"0": {"alpha": 10.0}, "1": {"alpha": 10.0}}) == "alpha 10.0"
    assert describe_chosen({}) == "–"
