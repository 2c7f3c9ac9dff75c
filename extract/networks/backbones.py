"""One frozen network a backbone: uint8 pictures in, every asked cut out."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from extract.config.cuts import Cut
from extract.config.suggestions import suggest
from extract.errors import NetworkError

try:
    import keras
except ModuleNotFoundError as _error:  # Keras takes TensorFlow unless it is told otherwise
    raise ModuleNotFoundError(
        f"Keras cannot load its backend: {_error}. Install TensorFlow, or name the backend that is "
        "installed: KERAS_BACKEND=jax or KERAS_BACKEND=torch."
    ) from None
except ValueError as _error:
    raise ValueError(
        f"KERAS_BACKEND: {_error}. Set it to tensorflow, jax or torch, or leave it out; where it is not set, "
        "~/.keras/keras.json may say it."
    ) from None

from keras.src.backend.common import global_state

from extract.networks.batchnorm_folding import fold_batch_norms
from extract.networks.registry import REGISTRY, Backbone


@keras.saving.register_keras_serializable(package="roofline")
class Preprocess(keras.layers.Layer):
    """The backbone's own `preprocess_input` as a layer, in float32: uint8 goes in, nobody can forget or repeat it."""

    def __init__(self, module: str, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.module = module
        self._function = _preprocess_of(module)

    def call(self, pictures: Any) -> Any:
        """Scale (n, size, size, 3) RGB 0 … 255 to what the network was trained on."""
        return self._function(keras.ops.cast(pictures, "float32"))

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "module": self.module}


def _preprocess_of(module: str) -> Callable[[Any], Any]:
    function: Callable[[Any], Any] = importlib.import_module(
        f"keras.applications.{module}"
    ).preprocess_input
    return function


@keras.saving.register_keras_serializable(package="roofline")
class Store(keras.layers.Layer):
    """Convert to the stored type; what exceeds its range becomes its largest value, never infinity."""

    def __init__(self, stored: str, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", "trainable": False, **kwargs})
        self.stored = stored

    def call(self, values: Any) -> Any:
        """Clip and cast (n, …) float32."""
        largest = float(np.finfo(self.stored).max)
        return keras.ops.cast(keras.ops.clip(values, -largest, largest), self.stored)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "stored": self.stored}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A built backbone: the model, its cuts in output order, and what its weights are.

    Attributes
    ----------
    model : (n, size, size, 3) uint8 → what is stored of each cut. `body` : what of it lies between the preprocessing and the
        pooling, scaled pictures → each cut's map.
    """

    model: keras.Model
    body: keras.Model
    cuts: list[Cut]
    weights: str
    weights_sha256: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of every cut, by dataset name."""
        return {
            cut.dataset: tuple(out.shape[1:])
            for cut, out in zip(self.cuts, self.model.outputs, strict=True)
        }


def find_backbone(name: str) -> Backbone:
    """Look a backbone up.

    Raises
    ------
    NetworkError : unknown; names the nearest.
    """
    if name not in REGISTRY:
        raise NetworkError(
            f"backbone {name!r}: unknown; known: {', '.join(REGISTRY)}.{suggest(name, REGISTRY)} "
            "Vectors from elsewhere are brought in by `python -m extract import`, before they are asked for."
        )
    return REGISTRY[name]


def find_preprocess(name: str) -> Callable[[Any], Any]:
    """Return a backbone's `preprocess_input`, which scales float32 RGB 0 … 255 to what the network was trained on."""
    return _preprocess_of(find_backbone(name).module)


def build_base(
    name: str, *, size: int, with_top: bool = False, weights: str | None = None
) -> keras.Model:
    """Build a network as Keras has it, random or with Keras's ImageNet weights.

    Raises
    ------
    NetworkError : unknown name, or a size that the network does not take.
    """
    entry = find_backbone(name)
    network = getattr(keras.applications, entry.network)
    try:
        with _names_from_the_start():
            return network(weights=weights, include_top=with_top, input_shape=(size, size, 3))
    except ValueError as error:
        raise NetworkError(f"backbone {name!r} at size {size}: {error}") from None


@contextmanager
def _names_from_the_start() -> Iterator[None]:
    """Have a network's layers named as in a process that has built no other.

    Keras leaves layers of some networks without a name (InceptionV3, Xception, MobileNetV3) and then counts on through the
    process: `activation_17` of the first one built is `activation_36` of the next, and neither cuts nor weights would find it.
    `keras.utils.clear_session` starts anew too, and drops the precision that is set.
    """
    counted = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", counted)


def cuttable_layers(base: keras.Model) -> list[keras.layers.Layer]:
    """Layers that can be cut: those with one output tensor of one row a picture, the input left out."""
    return [
        layer
        for layer in base.layers[1:]
        if hasattr(layer.output, "shape") and len(layer.output.shape) in (2, 4)
    ]


def needs_top(name: str, layers: Sequence[str], *, size: int) -> bool:
    """Return whether a layer lies above the convolutions, so that the network has to be built with its top.

    Raises
    ------
    NetworkError : a layer that the network has neither with nor without its top; names the nearest.
    """
    below = {layer.name for layer in cuttable_layers(build_base(name, size=size))}
    if all(layer in below for layer in layers):
        return False
    known = [layer.name for layer in cuttable_layers(build_base(name, size=size, with_top=True))]
    for layer in layers:
        if layer not in known and layer not in below:
            raise NetworkError(
                f"cut '{name}/{layer}': unknown layer {layer!r}; {name} has {known[0]} … {known[-1]} "
                f"(`python -m extract layers {name}` lists them).{suggest(layer, known)}"
            )
    return True


def build_network(
    cuts: Sequence[Cut], *, size: int, weights: str, dtype: str = "float32", stored: str = "float32"
) -> Network:
    """Build the one model that gives every cut of a backbone, truncated at the deepest.

    Parameters
    ----------
    cuts : cuts of one backbone.
    size : side of the pictures [pixels].
    weights : `imagenet`, `random:<seed>` or a weight file (.h5), which may cover just the layers that the cuts need.
    dtype : what the network computes in; weights stay float32, pooling is done in float32.
    stored : type of the outputs; converted where the network runs, so that less is copied back.

    Returns
    -------
    Network : (n, size, size, 3) uint8 → one array of type `stored` a cut.

    Raises
    ------
    NetworkError : unknown backbone or layer, weights that are not there or do not cover the cuts.
    """
    name = cuts[0].backbone
    with_top = needs_top(name, [cut.layer for cut in cuts], size=size)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if dtype == "float32" else f"mixed_{dtype}")
    try:
        base = load_base(name, size=size, with_top=with_top, weights=weights)
        body = keras.Model(base.inputs, [base.get_layer(cut.layer).output for cut in cuts])
        if Path(weights).is_absolute():
            load_weights(body, Path(weights))
        pictures = keras.Input((size, size, 3), dtype="uint8")
        digest = hash_weights(body)
        body = fold_batch_norms(body)
        maps = body(Preprocess(REGISTRY[name].module)(pictures), training=False)
        pooled = [
            _pool(map_, cut)
            for map_, cut in zip(maps if isinstance(maps, list) else [maps], cuts, strict=True)
        ]
        outputs = [Store(stored)(values) for values in pooled] if stored != "float32" else pooled
        model = keras.Model(pictures, outputs, name=name)
    finally:
        keras.config.set_dtype_policy(policy)
    model.trainable = False
    return Network(model=model, body=body, cuts=list(cuts), weights=weights, weights_sha256=digest)


def load_base(name: str, *, size: int, with_top: bool, weights: str) -> keras.Model:
    """Build a network with Keras's ImageNet weights or seeded random ones; for a file they are still to be loaded.

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
                f"weights of {name!r}: Keras has no ImageNet file here and could not fetch one ({error}). "
                f'Connect once, or set [extract] weights = {{ {name} = "<file>.h5" }}.'
            ) from None
    base = build_base(name, size=size, with_top=with_top)
    return (
        _draw_weights(base, int(weights.removeprefix("random:")))
        if weights.startswith("random:")
        else base
    )


def _draw_weights(base: keras.Model, seed: int) -> keras.Model:
    """Draw a network's weights anew, each layer from its own seed.

    Keras's global seed would not do: it is Python's `random`, which other threads of a worker draw from as well. Nor would its
    draws: they shrink what passes, and a deep network ended in thousandths, below what float16 resolves and a head can use.
    """

    def seeded(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        for key, value in config.items():
            if isinstance(value, dict) and "seed" in value.get("config", {}):
                if value["class_name"] == "GlorotUniform":
                    config[key] = value = _keeping_size(
                        layer, is_depthwise=key == "depthwise_initializer"
                    )
                digest = hashlib.sha256(f"{seed}/{layer.name}/{key}".encode()).digest()
                value["config"]["seed"] = int.from_bytes(digest[:4], "little") >> 1
        return layer.__class__.from_config(config)

    return keras.models.clone_model(base, clone_function=seeded)


def _keeping_size(layer: keras.layers.Layer, *, is_depthwise: bool) -> dict[str, Any]:
    """Return an initializer of variance 1 / inputs (LeCun et al. 1998, Efficient BackProp), which keeps the size of what passes.

    A depthwise kernel gets 2 / (height × width) (He et al. 2015, arXiv:1502.01852); Keras counts all channels as inputs of each.
    """
    scaled = keras.initializers.VarianceScaling
    given = (
        scaled(2.0 * int(layer.weights[0].shape[-2]), seed=0)
        if is_depthwise
        else scaled(1.0, distribution="uniform", seed=0)
    )
    config: dict[str, Any] = keras.initializers.serialize(given)
    return config


def load_weights(body: keras.Model, path: Path) -> None:
    """Load a Keras .h5 weight file layer by layer, by name; what the file has beyond the model is left alone.

    Raises
    ------
    NetworkError : no such file, not HDF5, or a layer of the model that it does not cover.
    """
    if not path.is_file():
        raise NetworkError(f"weights {path}: no such file. Mend [extract] weights.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise NetworkError(
            f"weights {path}: not a readable HDF5 file ({error}). Fetch it again."
        ) from None
    with file:
        groups = file.get("model_weights", file)
        for layer in body.layers:
            if layer.weights:
                layer.set_weights(_read_layer(groups, layer, path))


def _read_layer(groups: h5py.Group, layer: keras.layers.Layer, path: Path) -> list[Any]:
    names = groups[layer.name].attrs.get("weight_names", []) if layer.name in groups else []
    if len(names) != len(layer.weights):
        raise NetworkError(
            f"weights {path}: layer {layer.name!r} is not covered ({len(names)} of {len(layer.weights)} arrays), "
            "and a cut needs it. Cut lower, or give a file that covers it."
        )
    values = [groups[layer.name][name][()] for name in names]
    for value, weight in zip(values, layer.weights, strict=True):
        if tuple(value.shape) != tuple(weight.shape):
            raise NetworkError(
                f"weights {path}: layer {layer.name!r} has shape {value.shape}, expected {tuple(weight.shape)}. "
                "The file is of another network or input size."
            )
    return values


def _pool(map_: Any, cut: Cut) -> Any:
    """Turn a layer's output into what is stored, in float32: means of thousands of values need its digits."""
    map_ = keras.layers.Activation("linear", dtype="float32")(map_)
    if cut.pooling == "map" or (len(map_.shape) == 2 and cut.pooling in ("avg", "max")):
        return map_
    pooling = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "flat": keras.layers.Flatten,
    }
    return pooling[cut.pooling](dtype="float32")(map_)


def hash_weights(model: keras.Model) -> str:
    """Return the SHA-256 of a model's weights, layer by layer."""
    digest = hashlib.sha256()
    for layer in model.layers:
        for value in layer.get_weights():
            digest.update(layer.name.encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def count_flops(layer: keras.layers.Layer) -> int:
    """Count a layer's multiplications and additions for one picture; only convolutions and dense layers count.

    Source: 2 × kernel area × input channels a group × output size (Molchanov et al. 2017, arXiv:1611.06440, appendix).
    """
    if isinstance(layer, keras.layers.Dense):
        return 2 * int(np.prod(layer.kernel.shape))
    if isinstance(
        layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D | keras.layers.SeparableConv2D
    ):
        places = int(np.prod(layer.output.shape[1:3]))
        return sum(2 * int(np.prod(w.shape)) for w in layer.weights if len(w.shape) == 4) * places
    return 0


def flops_to(base: keras.Model, layer: str) -> int:
    """FLOPs of one picture from the input to a layer's output, counting only the layers on the way."""
    body = keras.Model(base.inputs, base.get_layer(layer).output)
    return sum(map(count_flops, body.layers))
