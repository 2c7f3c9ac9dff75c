"""Promises of what settings may ask of a family: what cannot work is refused before anything is
fitted.
"""

from __future__ import annotations

from typing import Any

import pytest

from models.families.params import check_params
from models.families.registry import BASELINES, FAMILIES, find_family


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("head", "epochs", 0),
        ("head", "batch", 0),
        ("head", "patience", 0),
        ("head", "dropout", 1.0),
        ("head", "learning_rate", -1e-3),
        ("head", "learning_rate", float("nan")),
        ("head:joint", "hidden", [64, 0]),
        ("finetune", "zoom", [0.0, 1.2]),
        ("forest", "n_estimators", 0),
        ("forest", "max_features", 3.0),
        ("xgboost", "n_estimators", 0),
        ("xgboost", "colsample_bytree", 2.0),
        ("xgboost", "max_bin", 1),
        ("knn", "n_neighbors", [5, 0]),
        ("knn", "sample", 0),
        ("ridge", "alphas", [1.0, 0.0]),
        ("ridge", "exact_limit", -5),
    ],
)
def test_a_value_with_which_nothing_can_be_learnt_is_refused_by_name(
    name: str, key: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"^{name}\.{key}: expected (at least|more than) [012]"):
        check_params(name, {key: value})


def test_a_choice_among_nothing_is_refused_but_a_head_without_layers_is_not() -> None:
    with pytest.raises(
        ValueError, match=r"^knn\.n_neighbors: expected at least one value, got none$"
    ):
        check_params("knn", {"n_neighbors": []})
    assert check_params("head", {"hidden": []}) == {"hidden": ()}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("n_estimators", True, "a number"),
        ("n_estimators", "5", "a number"),
        ("learning_rate", "0.1", "a number"),
    ],
)
def test_a_value_of_another_kind_is_refused_and_not_turned_into_one(
    key: str, value: Any, expected: str
) -> None:
    with pytest.raises(ValueError, match=rf"^xgboost\.{key}: expected {expected}, got {value!r}$"):
        check_params("xgboost", {key: value})
    with pytest.raises(ValueError, match=r"^knn\.centre: expected true or false, got 1$"):
        check_params("knn", {"centre": 1})
    with pytest.raises(ValueError, match=r"^ridge\.alphas: expected a number, got '1'$"):
        check_params("ridge", {"alphas": [0.5, "1"]})


@pytest.mark.parametrize("name", [*BASELINES, *FAMILIES])
def test_what_a_family_has_by_itself_may_be_set(name: str) -> None:
    own = {
        k: v
        for k, v in find_family(name)().get_params().items()
        if k not in ("task", "seed", "n_jobs") and v is not None
    }
    assert check_params(name, own) == own


def test_a_parameter_that_was_renamed_is_refused_with_its_new_name() -> None:
    old = {
        "xgboost": ("depth", "max_depth"),
        "forest": ("min_leaf", "min_samples_leaf"),
        "knn": ("k_choices", "n_neighbors"),
        "location": ("weightings", "weights"),
        "head": ("rate", "learning_rate"),
        "finetune": ("warm_rate", "warm_learning_rate"),
    }
    for family, (before, now) in old.items():
        with pytest.raises(ValueError, match=rf"^{family}: '{before}' is called '{now}' now"):
            check_params(family, {before: 3})
    with pytest.raises(ValueError, match=r"^forest: there is no 'search' any more: .*extratrees"):
        check_params("forest", {"search": True})


def test_a_share_may_be_a_name_and_one_value_stands_for_several() -> None:
    assert check_params("forest", {"max_features": "sqrt"}) == {"max_features": "sqrt"}
    assert check_params("knn", {"n_neighbors": 11, "weights": "uniform"}) == {
        "n_neighbors": (11,),
        "weights": ("uniform",),
    }
    with pytest.raises(ValueError, match=r"^forest\.max_features: .*got 'third'"):
        check_params("forest", {"max_features": "third"})


def test_an_unknown_parameter_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"^knn: unknown parameter 'metrc'.*Did you mean 'metric'"):
        check_params("knn", {"metrc": "cosine"})
