"""Parameters that make families small, for tests that are not about their size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

_HEAD = {"hidden": (16,), "dropout": 0.0, "learning_rate": 1e-2, "epochs": 2}
_QUICK: dict[str, dict[str, Any]] = {
    "head": _HEAD,
    "head:joint": _HEAD,
    "cnn": {"epochs": 2, "filters": 4, "dense": 8},
    "forest": {"n_estimators": 30},
    "extratrees": {"n_estimators": 30},
    "xgboost": {"n_estimators": 60, "learning_rate": 0.3},
}


def quick(name: str) -> dict[str, Any]:
    """Return small parameters of a family, with which a network learns next to nothing."""
    return _QUICK.get(name, {})


def learning(name: str) -> dict[str, Any]:
    """Return small parameters of a family with which it finds a planted truth."""
    return quick(name) | ({"epochs": 12} if is_network(name) else {})


def is_network(name: str) -> bool:
    """Tell whether a family is trained by Keras."""
    return name.startswith(("head", "cnn"))


def mark_networks(names: Iterable[str]) -> list[Any]:
    """Return names of families as parameters of a test that is slow for networks."""
    slow = pytest.mark.slow
    return [pytest.param(name, marks=slow if is_network(name) else ()) for name in names]
