"""Whose weights a model stands on, and under which licence they were given; a kept model carries
it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from extract.config.cuts import PIXELS, CellCut, Cut
from extract.store.embeddings import read_attributes

# What Keras's documentation states under "License" of each network whose ImageNet weights it hands
# out (Keras 2.3, Applications). Of those that came later (EfficientNet, EfficientNetV2,
# MobileNetV3, ConvNeXt) it states none, and nothing is guessed here.
_IMAGENET = {
    r"vgg\d+": "CC BY 4.0 (Visual Geometry Group, University of Oxford)",
    r"resnet\d+": "MIT (Kaiming He, deep-residual-networks)",
    r"resnet\d+v2": "BSD (Facebook, fb.resnet.torch)",
    r"densenet\d+": "BSD 3-clause (Zhuang Liu, DenseNet)",
    r"mobilenet|mobilenetv2|inceptionv3|inceptionresnetv2": "Apache 2.0 (TensorFlow models)",
    r"xception": "MIT (Keras)",
}
_LOOK = ("size", "scale", "nodata", "background")


def read_licence(folder: Path, cut: CellCut) -> str:
    """Return the licence of the weights that made a cut, from what its features say of them."""
    if not isinstance(cut, Cut) or cut.backbone == PIXELS:
        return "none: no network was used"
    path = folder / "features" / f"{cut.backbone}.h5"
    weights = read_attributes(path).get("weights", "")
    return find_licence(cut.backbone, str(weights))


def read_look(path: Path) -> dict[str, Any]:
    """Return what decides, besides the weights, how a picture becomes a row: its side, and how its
    values are brought to bytes.

    Parameters
    ----------
    path : the features of a backbone.
    """
    made = read_attributes(path).get("recipe", "{}")
    return {name: value for name, value in json.loads(made).items() if name in _LOOK}


def read_made(path: Path) -> dict[str, Any]:
    """Return what is needed to make features of other pictures as these were made.

    Parameters
    ----------
    path : the features of a backbone.

    Returns
    -------
    `weights` (`imagenet`, `random:<seed>`, a file, or `imported`), `precision` as it was chosen,
    `cuts`, `dtype`.
    """
    made = read_attributes(path)
    recipe = json.loads(made.get("recipe", "{}"))
    return {
        "weights": str(made.get("weights", "")),
        "precision": str(made.get("precision", "auto")),
        "cuts": recipe.get("cuts", []),
        "dtype": recipe.get("dtype", "float16"),
    }


def find_licence(backbone: str, weights: str) -> str:
    """Return the licence of weights: `imagenet`, `random:<seed>`, or the name of a file, whose
    licence nobody here knows.

    References
    ----------
    Keras 2.3 documentation, keras.io/applications, section "License" of each network: the weights
    are ported from their authors'.
    """
    if weights.startswith("random:"):
        return "none: random weights"
    if weights == "imagenet":
        known = next(
            (text for names, text in _IMAGENET.items() if re.fullmatch(names, backbone)), None
        )
        return known or f"not known: Keras documents none for the ImageNet weights of {backbone}"
    return f"not known: ask who made {weights or 'these embeddings'}"
