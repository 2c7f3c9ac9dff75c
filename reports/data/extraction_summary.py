"""What the extraction says of itself: weights, stages, rejected tiles; each empty where its file is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from extract.errors import ReportError
from extract.store.embeddings import Embeddings

_WEIGHTS = [
    "backbone",
    "weights",
    "is_random",
    "sha256",
    "precision",
    "device",
    "tiles",
    "rejected",
    "created_with",
]


def read_weights(folder: Path, backbones: list[str]) -> pd.DataFrame:
    """Return one row a backbone whose features are there: `_WEIGHTS`."""
    rows = []
    for backbone in backbones:
        path = folder / "features" / f"{backbone}.h5"
        if path.is_file():
            with Embeddings(path) as embeddings:
                rows.append(_weights_row(backbone, embeddings))
    return pd.DataFrame(rows, columns=_WEIGHTS)


def _weights_row(backbone: str, embeddings: Embeddings) -> dict[str, Any]:
    attributes = embeddings.attributes
    weights = str(attributes.get("weights", "unknown"))
    return {
        "backbone": backbone,
        "weights": weights,
        "is_random": bool(attributes.get("weights_are_random", False))
        or weights.startswith("random:"),
        "sha256": str(attributes.get("weights_sha256", "")),
        "precision": str(attributes.get("precision", "")),
        "device": str(attributes.get("device", "")),
        "created_with": str(attributes.get("created_with", "")),
        "tiles": len(embeddings.is_ok),
        "rejected": int((~embeddings.is_ok).sum()),
    }


def read_stages(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return seconds, one row a (backbone, stage), and one row a backbone: tiles_per_second and peak_rss_bytes, NaN where unsaid.

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
