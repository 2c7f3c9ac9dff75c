"""Tiles in, embeddings out: every picture through a frozen network once, into HDF5.

From Python::

    cut = extract.open_embeddings("artifacts/town")["vgg16/block5_pool:avg"]
    cut.array   # (n_tiles, n_features)
    cut.ids     # (n_tiles,)
    cut.frame   # a DataFrame by id, of the accepted tiles
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extract.api import CutEmbeddings, ExperimentEmbeddings, open_embeddings
    from extract.errors import RooflineError

__all__ = ["CutEmbeddings", "ExperimentEmbeddings", "RooflineError", "open_embeddings"]


def __getattr__(name: str) -> Any:
    """Load what is asked for; importing the package loads nothing."""
    if name == "RooflineError":
        from extract.errors import RooflineError

        return RooflineError
    if name in __all__:
        from extract import api

        return getattr(api, name)
    raise AttributeError(f"module 'extract' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
