"""Read what the extraction wrote about itself: weights, stages, rejected tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from extract.errors import ReportError
from extract.store.embeddings import Embeddings

WEIGHT_COLUMNS = [
    "backbone",
    "weights",
    "is_random",
    "sha256",
    "precision",
    "device",
    "created_with",
    "tiles",
    "rejected",
]


def read_weights(folder: Path, backbones: list[str]) -> pd.DataFrame:
    """Return one row a backbone whose features are there, with `WEIGHT_COLUMNS`."""
    rows = []
    for backbone in backbones:
        path = folder / "features" / f"{backbone}.h5"
        if path.is_file():
            with Embeddings(path) as embeddings:
                rows.append((backbone, *_describe_weights(embeddings)))
    return pd.DataFrame(rows, columns=WEIGHT_COLUMNS)


def _describe_weights(embeddings: Embeddings) -> tuple[object, ...]:
    attributes = embeddings.attributes
    weights = str(attributes.get("weights", "unknown"))
    is_random = attributes.get("weights_are_random") or weights.startswith("random:")
    names = ("weights_sha256", "precision", "device", "created_with")
    texts = [str(attributes.get(name, "")) for name in names]
    n_rejected = int((~embeddings.is_ok).sum())
    return (weights, bool(is_random), *texts, len(embeddings.is_ok), n_rejected)


def read_stages(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables: the seconds of each stage, and the rate and memory of each backbone.

    The first has one row a (backbone, stage); the second, by backbone, `tiles_per_second` and
    `peak_rss_bytes`, NaN where the extraction does not state them.

    Raises
    ------
    ReportError : not as the extraction writes it.
    """
    columns = ["backbone", "stage", "seconds"]
    rates = ["tiles_per_second", "peak_rss_bytes"]
    if not path.is_file():
        return pd.DataFrame(columns=columns), pd.DataFrame(columns=rates)
    try:
        document: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            (backbone, stage, float(seconds))
            for backbone, one in document.items()
            for stage, seconds in one.get("seconds", {}).items()
        ]
        facts = {
            b: [float(one.get(name) or "nan") for name in rates] for b, one in document.items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise ReportError(
            f"stages {path}: not readable ({error}). Delete it, or run `make features` again."
        ) from None
    return pd.DataFrame(rows, columns=columns), pd.DataFrame.from_dict(
        facts, orient="index", columns=rates
    )


def read_rejects(path: Path) -> pd.DataFrame:
    """Return id, path and reason of each rejected tile, as text."""
    columns = ["id", "path", "reason"]
    if not path.is_file() or not path.stat().st_size:
        return pd.DataFrame(columns=columns)
    return pd.read_csv(path, dtype=str, keep_default_na=False).reindex(columns=columns)
