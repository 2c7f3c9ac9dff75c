"""Read what made the features: the network, its weights and their licence, and the pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from extract.config.cuts import PIXELS, CellCut, Cut, parse_cut
from extract.files.hashing import hash_file, hash_text
from extract.networks.registry import Origin
from extract.store.schema import ShardAttributes, read_attributes
from models.data.model_names import FINETUNE, ModelSpec
from models.settings import FitSettings

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


def read_licence(folder: Path, cuts: Sequence[Cut]) -> str:
    """Return the licence of the weights that made cuts, from what their features say of them."""
    backbones = [cut.backbone for cut in cuts if cut.backbone != PIXELS]
    licences = []
    for backbone in dict.fromkeys(backbones):
        weights = read_attributes(folder / "features" / f"{backbone}.h5").get("weights", "")
        licences.append(find_licence(backbone, str(weights)))
    return "; ".join(dict.fromkeys(licences)) or "none: no network was used"


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
        for names, licence in _IMAGENET.items():
            if re.fullmatch(names, backbone):
                return licence
        return f"not known: Keras documents none for the ImageNet weights of {backbone}"
    return f"not known: ask who made {weights or 'these embeddings'}"


def find_origin(settings: FitSettings, spec: ModelSpec, cut: CellCut) -> Origin | None:
    """Return the network that a model continues from a cut; None where there is none.

    A tail starts from the weights that made its embeddings, a whole network from those that made
    the embeddings of its backbone. Where there are no such embeddings, the settings decide.
    """
    if not isinstance(cut, Cut):
        return None
    if spec.family == FINETUNE:
        weights, _ = _find_weights(settings, spec.backbone)
        return Origin(backbone=spec.backbone, layer="", size=int(cut.layer), weights=weights)
    if spec.family != "tail":
        return None
    weights, made = _find_weights(settings, cut.backbone)
    if cut.backbone == PIXELS or made is None or made["weights"] == "imported":
        return None
    recipe = json.loads(made["recipe"])
    return Origin(
        backbone=cut.backbone,
        layer=cut.layer,
        size=int(recipe["size"]),
        weights=weights,
        cuts=tuple(parse_cut(one).layer for one in recipe["cuts"]),
        sha256=str(made["weights_sha256"]),
    )


def _find_weights(settings: FitSettings, backbone: str) -> tuple[str, ShardAttributes | None]:
    """Return the source of a backbone's weights, and the attributes of its features if there are
    some.

    Features say `random:<seed>` where ImageNet's weights could not be had; a file is where these
    settings have it.
    """
    path = settings.folder / "features" / f"{backbone}.h5"
    asked = settings.extract.weights_of(backbone)
    if not path.is_file():
        return asked, None
    made = read_attributes(path)
    is_random = str(made["weights"]).startswith("random:")
    return made["weights"] if is_random else asked, made


def hash_origin(origin: Origin) -> str:
    """Hash the pretrained network whose training a model continues, as far as numbers depend on it.

    Raises
    ------
    ValueError : the file of the weights is not there.
    """
    source = origin.weights
    path = Path(origin.weights)
    if path.is_absolute():
        if not path.is_file():
            raise ValueError(
                f"weights {path}: no such file, and a model goes on with the network. Mend "
                "[extract] weights."
            )
        source = _hash_weights(path, path.stat().st_mtime_ns)
    text = f"{origin.backbone} {origin.layer} {origin.size} {source}"
    return hash_text(text)


@lru_cache(maxsize=8)
def _hash_weights(path: Path, changed: int) -> str:  # noqa: ARG001
    return hash_file(path)
