"""Refuse a misspelt layer; for the commonest networks without loading Keras."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from extract.config.suggestions import suggest
from extract.errors import NetworkError

LAYERS = Path(__file__).with_name("layers.json")  # written by docs/write_layers.py
SIZE = 224  # side of the pictures that the names were listed at [pixels]


def list_known(backbone: str) -> list[str]:
    """Return the layers that can be cut, from the pictures to the top; none where not listed."""
    names: dict[str, list[str]] = json.loads(LAYERS.read_text(encoding="utf-8"))
    return names.get(backbone, [])


def check_layer(backbone: str, layer: str, known: Sequence[str]) -> None:
    """Refuse a layer that a network does not have.

    Raises
    ------
    NetworkError : unknown; names the nearest.
    """
    if layer in known:
        return
    hint = suggest(layer, known)
    raise NetworkError(
        f"cut '{backbone}/{layer}': unknown layer {layer!r}; {backbone} has {known[0]} … "
        f"{known[-1]} (`roofline layers {backbone}` lists them).{hint}"
    )
