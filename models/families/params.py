"""Check the parameters that settings give a family: names, types and bounds."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from inspect import getattr_static
from typing import Any, NamedTuple, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from extract.config.suggestions import suggest
from models.families.registry import BASELINES, FAMILIES, find_family

_NOT_SET = ("task", "seed", "n_jobs")  # what targets, [models] seed and [models] threads decide


class Bounds(NamedTuple):
    """Between what a number lies: from `least`, or where it is `above` from more than that, to
    `most` or `below`.
    """

    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def hold(self, value: float) -> bool:
        """Return whether a number lies between them; infinite ones and NaN never do."""
        return (
            math.isfinite(value)
            and self.least <= value <= self.most
            and self.above < value < self.below
        )

    def __str__(self) -> str:
        """Return them in words."""
        words = {
            "at least": self.least,
            "more than": self.above,
            "at most": self.most,
            "less than": self.below,
        }
        return " and ".join(
            f"{word} {value:g}" for word, value in words.items() if math.isfinite(value)
        )


# The same name means the same in every family. Of several numbers each lies between the bounds.
_AT_LEAST_1 = (
    "hidden batch epochs patience filters dense n_estimators min_samples_leaf max_depth "
    "early_stopping_rounds n_neighbors max_search sample n_centres exact_limit"
)
_ABOVE_0 = "C learning_rate warm_learning_rate zoom lengths alphas noise"
_SHARES = "max_features subsample colsample_bytree colsample_bynode"
_BOUNDS = {
    **dict.fromkeys(_AT_LEAST_1.split(), Bounds(least=1)),
    **dict.fromkeys(("warm_epochs", "min_delta", "min_child_weight"), Bounds(least=0)),
    **dict.fromkeys(_ABOVE_0.split(), Bounds(above=0)),
    **dict.fromkeys(_SHARES.split(), Bounds(above=0, most=1)),
    "dropout": Bounds(least=0, below=1),
    "max_bin": Bounds(least=2),
}
_TREES = {"n_trees": "n_estimators", "min_leaf": "min_samples_leaf", "features": "max_features"}
_NEIGHBOURS = {"k_choices": "n_neighbors", "weightings": "weights"}
_NETWORKS = {"rate": "learning_rate", "warm_rate": "warm_learning_rate"}
_RENAMED = {
    **dict.fromkeys(("head", "head:joint", "cnn", "tail", "finetune"), _NETWORKS),
    "forest": _TREES,
    "knn": _NEIGHBOURS,
    "location": _NEIGHBOURS,
    "xgboost": {
        "rounds": "n_estimators",
        "patience": "early_stopping_rounds",
        "depth": "max_depth",
        "rate": "learning_rate",
        "rows": "subsample",
        "columns": "colsample_bytree",
        "min_child": "min_child_weight",
    },
}
_REMOVED = {
    "forest": {"search": "a forest searches its cuts; 'extratrees' draws them, as forest once did"}
}
_MAY_BE_EMPTY = ("hidden",)


def check_params(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a family's constructor, each of the type that it states.

    One value where several may stand is several of one.

    Raises
    ------
    ValueError : an unknown family or parameter (the text gives the nearest), one that has another
        name by now, a value of another type, or one out of its bounds.
    """
    families = [*BASELINES, *FAMILIES]
    if name not in families:
        raise ValueError(
            f"unknown family {name!r}; known: {', '.join(families)}.{suggest(name, families)}"
        )
    function = getattr_static(find_family(name), "__init__")
    hints = get_type_hints(function)
    hidden = ("return", *_NOT_SET)
    known = {key: kind for key, kind in hints.items() if key not in hidden}
    checked = {}
    for key, value in params.items():
        _check_name(name, key, known)
        given = value
        if get_origin(known[key]) is tuple and not isinstance(value, list | tuple):
            given = (value,)
        try:
            checked[key] = TypeAdapter(known[key]).validate_python(given)
        except ValidationError as error:
            first, *_ = error.errors()
            problem = first["msg"]
            start = problem[:1].lower()
            raise ValueError(f"{name}.{key}: {start}{problem[1:]}, got {value!r}") from None
        _check_kinds(name, key, given, checked[key])
        _check_bounds(name, key, checked[key])
    return checked


def _check_name(name: str, key: str, known: Collection[str]) -> None:
    """Refuse a parameter that a family does not have, or has by another name."""
    if key in known:
        return
    renamed = _RENAMED.get(name, {}).get(key)
    if renamed is not None:
        raise ValueError(
            f"{name}: {key!r} is called {renamed!r} now, as in the library; write that."
        )
    removed = _REMOVED.get(name, {}).get(key)
    if removed is not None:
        raise ValueError(f"{name}: there is no {key!r} any more: {removed}.")
    raise ValueError(
        f"{name}: unknown parameter {key!r}; known: {', '.join(known)}.{suggest(key, known)}"
    )


def _check_kinds(name: str, key: str, given: Any, value: Any) -> None:
    """Refuse what was turned into another kind: a number in quotes, or true where a number
    belongs.
    """
    pairs = zip(given, value, strict=True) if isinstance(value, tuple) else [(given, value)]
    for one, turned in pairs:
        is_text_alike = isinstance(one, str) == isinstance(turned, str)
        is_truth_alike = isinstance(one, bool) == isinstance(turned, bool)
        if is_text_alike and is_truth_alike:
            continue
        kind = {bool: "true or false", str: "text"}.get(type(turned), "a number")
        raise ValueError(f"{name}.{key}: expected {kind}, got {one!r}")


def _check_bounds(name: str, key: str, value: Any) -> None:
    values = value if isinstance(value, tuple) else (value,)
    if not values and key not in _MAY_BE_EMPTY:
        raise ValueError(f"{name}.{key}: expected at least one value, got none")
    bounds = _BOUNDS.get(key)
    if bounds is None:
        return
    for one in values:
        is_number = isinstance(one, int | float)
        if is_number and not bounds.hold(one):
            raise ValueError(f"{name}.{key}: expected {bounds}, got {one!r}")
