"""Embeddings in, scores out: many cheap models on one set of folds, compared honestly.

From Python::

    models.read_scores("artifacts/town")
    models.read_predictions("artifacts/town", "income")
    models.load_model("artifacts/town", "income").predict(X)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.api import LoadedModel, load_model, read_predictions, read_scores

__all__ = ["LoadedModel", "load_model", "read_predictions", "read_scores"]


def __getattr__(name: str) -> Any:
    """Load what is asked for; importing the package loads nothing."""
    if name in __all__:
        from models import api

        return getattr(api, name)
    raise AttributeError(f"module 'models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
