"""Whose weights a model stands on, and under which licence they were given; a kept model carries it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from extract.embeddings import read_attributes
from extract.settings import PIXELS

# As Keras's documentation says of the ImageNet weights that it hands out (keras.io, Applications, "License").
_IMAGENET = {
    "vgg": "CC BY (Visual Geometry Group, University of Oxford)",
    "resnet": "MIT (Keras; ported from the ResNet authors)",
    "mobilenet": "Apache 2.0 (TensorFlow models)",
    "nasnet": "Apache 2.0 (TensorFlow models)",
    "efficientnet": "Apache 2.0 (TensorFlow models)",
    "densenet": "BSD 3-clause (DenseNet authors)",
    "inception": "MIT (Keras)",
    "xception": "MIT (Keras)",
}
_LOOK = ("size", "scale", "nodata", "background")


def read_licence(folder: Path, cut: str) -> str:
    """Give the licence of the weights that made a cut, from what its features say of them."""
    backbone = cut.split("/")[0]
    if "/" not in cut or backbone == PIXELS:
        return "none: no network was used"
    return find_licence(backbone, str(read_attributes(folder / "features" / f"{backbone}.h5", "weights").get("weights", "")))


def read_look(path: Path) -> dict[str, Any]:
    """Give what decides, besides the weights, how a picture becomes a row: its side, and how its values are brought to bytes.

    Parameters
    ----------
    path : the features of a backbone.
    """
    made = read_attributes(path, "recipe").get("recipe", "{}")
    return {name: value for name, value in json.loads(made).items() if name in _LOOK}


def find_licence(backbone: str, weights: str) -> str:
    """Give the licence of weights: `imagenet`, `random:<seed>`, or the name of a file, whose licence nobody here knows."""
    if weights.startswith("random:"):
        return "none: random weights"
    known = next((text for start, text in _IMAGENET.items() if backbone.startswith(start)), None)
    if weights == "imagenet" and known is not None:
        return known
    return f"not known: ask who made {weights or 'these embeddings'}"
