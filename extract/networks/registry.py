"""Networks by name, and the origin of features; Keras is not loaded."""

from __future__ import annotations

from dataclasses import dataclass

from extract.config.suggestions import suggest
from extract.errors import NetworkError


@dataclass(frozen=True, slots=True)
class Backbone:
    """Module of `keras.applications` that holds a network and its `preprocess_input`.

    Attributes
    ----------
    chain : prefix of the layers that form a chain of 3 × 3 convolutions and poolings from the
        pictures on; empty where the network is built otherwise.
    """

    module: str
    network: str
    chain: str = ""


# Keras 3's whole zoo; a network of your own needs one line here.
REGISTRY: dict[str, Backbone] = {
    "vgg16": Backbone("vgg16", "VGG16", chain="block"),
    "vgg19": Backbone("vgg19", "VGG19", chain="block"),
    "mobilenet": Backbone("mobilenet", "MobileNet"),
    "mobilenetv2": Backbone("mobilenet_v2", "MobileNetV2"),
    "mobilenetv3small": Backbone("mobilenet_v3", "MobileNetV3Small"),
    "mobilenetv3large": Backbone("mobilenet_v3", "MobileNetV3Large"),
    "xception": Backbone("xception", "Xception"),
    "inceptionv3": Backbone("inception_v3", "InceptionV3"),
    "inceptionresnetv2": Backbone("inception_resnet_v2", "InceptionResNetV2"),
    **{f"resnet{n}": Backbone("resnet", f"ResNet{n}") for n in (50, 101, 152)},
    **{f"resnet{n}v2": Backbone("resnet_v2", f"ResNet{n}V2") for n in (50, 101, 152)},
    **{f"densenet{n}": Backbone("densenet", f"DenseNet{n}") for n in (121, 169, 201)},
    **{f"efficientnetb{n}": Backbone("efficientnet", f"EfficientNetB{n}") for n in range(8)},
    **{
        f"efficientnetv2{s.lower()}": Backbone("efficientnet_v2", f"EfficientNetV2{s}")
        for s in ("B0", "B1", "B2", "B3", "S", "M", "L")
    },
    **{
        f"convnext{s.lower()}": Backbone("convnext", f"ConvNeXt{s}")
        for s in ("Tiny", "Small", "Base", "Large", "XLarge")
    },
}


def find_backbone(name: str) -> Backbone:
    """Look a backbone up.

    Raises
    ------
    NetworkError : unknown; names the nearest.
    """
    if name not in REGISTRY:
        known = ", ".join(REGISTRY)
        hint = suggest(name, REGISTRY)
        raise NetworkError(
            f"backbone {name!r}: unknown; known: {known}.{hint} "
            "Bring in vectors by `roofline import`, and rasters by `roofline raster`, first."
        )
    return REGISTRY[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Part of a network that computed some features, so that training can go on from there.

    Attributes
    ----------
    backbone, layer : whose output the features are; no layer where they are the pictures.
    size : side of the pictures [pixels].
    weights : `imagenet`, `random:<seed>`, a file, or empty: set by whoever builds it.
    cuts : layers that the features were made with, in their order; empty where nothing was made.
    sha256 : hash of the weights up to the cuts.
    """

    backbone: str
    layer: str
    size: int
    weights: str = ""
    cuts: tuple[str, ...] = ()
    sha256: str = ""
