"""The networks by name, and where in one of them features come from; Keras is not loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backbone:
    """Where `keras.applications` keeps a network: `module` holds `network` and its `preprocess_input`.

    Attributes
    ----------
    chain : what the names of its layers begin with that are 3 × 3 convolutions and poolings, one after the other from the
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What stood before some features, so that the network can be gone on with from there.

    Attributes
    ----------
    backbone, layer : whose output the features are; the layer is empty where they are the pictures themselves.
    size : side of the pictures [pixels].
    weights : `imagenet`, `random:<seed>`, a file, or empty for none: who builds it sets them.
    cuts : layers that the features were made with, in their order, and `sha256` of the weights up to them; empty where
        nothing was made yet.
    """

    backbone: str
    layer: str
    size: int
    weights: str = ""
    cuts: tuple[str, ...] = ()
    sha256: str = ""
