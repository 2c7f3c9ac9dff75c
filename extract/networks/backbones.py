"""Build one frozen network a backbone, which turns uint8 pictures into every cut asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from extract.config.arrays import Float32s, Pixels
from extract.config.cuts import Cut
from extract.errors import NetworkError

try:
    import keras
except ModuleNotFoundError as _error:  # Keras takes TensorFlow unless it is told otherwise
    raise ModuleNotFoundError(
        f"Keras cannot load its backend: {_error}. In the folder of Roofline, give pip install "
        "'.[cpu]' (or '.[gpu]'); or name a backend that is installed: KERAS_BACKEND=jax or "
        "KERAS_BACKEND=torch."
    ) from None
except ValueError as _error:
    raise ValueError(
        f"KERAS_BACKEND: {_error}. Set it to tensorflow, jax or torch, or leave it out; where it "
        "is not set, ~/.keras/keras.json may set it."
    ) from None

from extract.networks.batchnorm_folding import fold_batch_norms
from extract.networks.graph import cuttable_layers, numbered_from_one
from extract.networks.known_layers import check_layer
from extract.networks.registry import REGISTRY, find_backbone
from extract.networks.weight_files import load_weights
from extract.networks.weights import draw_weights, hash_weights


@keras.saving.register_keras_serializable(package="roofline")
class Preprocess(keras.layers.Layer):
    """The backbone's own `preprocess_input` as a float32 layer of the model, which takes uint8."""

    def __init__(self, module: str, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.module = module
        self._function = _import_preprocess(module)

    def call(self, pictures: Any) -> Any:
        """Scale (n, size, size, 3) RGB 0 … 255 to what the network was trained on."""
        return self._function(keras.ops.cast(pictures, "float32"))

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "module": self.module}


def store(values: Any, dtype: str) -> Any:
    """Convert to the stored type; values beyond its range become its largest, never infinity."""
    largest = float(np.finfo(dtype).max)
    return keras.ops.cast(keras.ops.clip(values, -largest, largest), dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenNetwork:
    """A built backbone.

    Attributes
    ----------
    model : (n, size, size, 3) uint8 → the stored rows of each cut.
    exact : the same in float32.
    body : its part between preprocessing and pooling: scaled pictures → the map of each cut.
    cuts : in the order of the outputs.
    weights, weights_sha256 : `imagenet`, `random:<seed>` or a file; hash of those that are used.
    """

    model: keras.Model
    exact: keras.Model
    body: keras.Model
    cuts: list[Cut]
    weights: str
    weights_sha256: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of every cut, by dataset name."""
        names = [cut.dataset for cut in self.cuts]
        shapes = [tuple(output.shape[1:]) for output in self.model.outputs]
        return dict(zip(names, shapes, strict=True))

    def embed_exactly(self, pictures: Pixels) -> dict[str, Float32s]:
        """Embed (n, size, size, 3) uint8 pictures in float32: dataset name → (n, …)."""
        outputs = keras.tree.flatten(self.exact(pictures, training=False))
        names = [cut.dataset for cut in self.cuts]
        rows = [keras.ops.convert_to_numpy(values) for values in outputs]
        return dict(zip(names, rows, strict=True))


def find_preprocess(name: str) -> Callable[[Any], Any]:
    """Return a backbone's `preprocess_input`, which scales float32 RGB 0 … 255 as in training."""
    return _import_preprocess(find_backbone(name).module)


def _import_preprocess(module: str) -> Callable[[Any], Any]:
    network = importlib.import_module(f"keras.applications.{module}")
    function: Callable[[Any], Any] = network.preprocess_input
    return function


def build_base(
    name: str, *, size: int, with_top: bool = False, weights: str | None = None
) -> keras.Model:
    """Build a network of Keras, random or with ImageNet weights.

    Raises
    ------
    NetworkError : unknown name, or a size that the network does not take.
    """
    entry = find_backbone(name)
    network = getattr(keras.applications, entry.network)
    try:
        with numbered_from_one():
            return network(weights=weights, include_top=with_top, input_shape=(size, size, 3))
    except ValueError as error:
        raise NetworkError(f"backbone {name!r} at size {size}: {error}") from None


def needs_top(name: str, layers: Sequence[str], *, size: int) -> bool:
    """Return whether a layer lies in the network's top, above the convolutions.

    Raises
    ------
    NetworkError : a layer that the network has neither with nor without its top; names the nearest.
    """
    without_top = build_base(name, size=size)
    below = {layer.name for layer in cuttable_layers(without_top)}
    above = set(layers) - below
    if not above:
        return False
    whole = build_base(name, size=size, with_top=True)
    known = [layer.name for layer in cuttable_layers(whole)]
    for layer in sorted(above):
        check_layer(name, layer, known)
    return True


def build_network(
    cuts: Sequence[Cut],
    *,
    size: int,
    weights: str,
    dtype: str = "float32",
    stored: str = "float32",
    float32_cuts: Collection[str] = (),
) -> FrozenNetwork:
    """Build the one model that computes every cut of a backbone, truncated at the deepest.

    Parameters
    ----------
    cuts : cuts of one backbone.
    size : side of the pictures [pixels].
    weights : `imagenet`, `random:<seed>` or a file (see `load_weights`), which may cover just the
        layers that the cuts need.
    dtype : what the network computes in; weights and pooling stay float32.
    stored : type of the outputs; converted where the network runs, so that less is copied back.
    float32_cuts : dataset names of cuts that stay float32.

    Raises
    ------
    NetworkError : unknown backbone or layer, weights that are missing or do not cover the cuts.
    """
    name = cuts[0].backbone
    layers = [cut.layer for cut in cuts]
    with_top = needs_top(name, layers, size=size)
    policy = keras.config.dtype_policy()
    is_mixed = dtype != "float32"
    keras.config.set_dtype_policy(f"mixed_{dtype}" if is_mixed else dtype)
    try:
        base = load_base(name, size=size, with_top=with_top, weights=weights)
        maps = [base.get_layer(layer).output for layer in layers]
        body = keras.Model(base.inputs, maps)
        if Path(weights).is_absolute():
            load_weights(body, Path(weights))
        digest = hash_weights(body)
        body = fold_batch_norms(body)
        pictures = keras.Input((size, size, 3), dtype="uint8")
        scaled = Preprocess(REGISTRY[name].module)(pictures)
        maps = keras.tree.flatten(body(scaled, training=False))
        poolings = [cut.pooling for cut in cuts]
        outputs = list(map(_pool, maps, poolings))
        exact = keras.Model(pictures, outputs, name=name)
        for i, cut in enumerate(cuts):
            if stored != "float32" and cut.dataset not in float32_cuts:
                outputs[i] = store(outputs[i], stored)
        model = keras.Model(pictures, outputs, name=name)
    finally:
        keras.config.set_dtype_policy(policy)
    model.trainable = False
    return FrozenNetwork(
        model=model,
        exact=exact,
        body=body,
        cuts=list(cuts),
        weights=weights,
        weights_sha256=digest,
    )


def load_base(name: str, *, size: int, with_top: bool, weights: str) -> keras.Model:
    """Build a network with ImageNet weights or seeded random ones; a file's are loaded later.

    Raises
    ------
    NetworkError : as `build_base`; ImageNet's weights cannot be had.
    """
    if weights == "imagenet":
        try:
            return build_base(name, size=size, with_top=with_top, weights="imagenet")
        except NetworkError:
            raise
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise NetworkError(
                f"weights of {name!r}: Keras has no ImageNet file here and could not fetch one "
                f'({error}). Connect once, or set [extract] weights = {{ {name} = "<file>.h5" }}.'
            ) from None
    base = build_base(name, size=size, with_top=with_top)
    if weights.startswith("random:"):
        return draw_weights(base, int(weights.removeprefix("random:")))
    return base


def _pool(map_: Any, pooling: str) -> Any:
    """Return what is stored of a map, in float32: means of thousands of values need its digits."""
    map_ = keras.ops.cast(map_, "float32")
    if pooling == "flat":
        return keras.layers.Flatten(dtype="float32")(map_)
    is_row = len(map_.shape) == 2
    if is_row or pooling == "map":
        return map_
    if pooling == "max":
        return keras.ops.max(map_, axis=(1, 2))
    return keras.ops.mean(map_, axis=(1, 2))
