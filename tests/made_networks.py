"""Program: embed a few tiles by a small network and train on them, on any backend of Keras."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import keras
import numpy as np

from extract.networks.forward import open_forward
from extract.networks.registry import REGISTRY, Backbone, Origin
from extract.settings import ExtractSettings, read_settings
from models.data.features import Features
from models.data.folds import Folds
from models.families.family import Family
from models.families.networks.finetune import Finetune
from models.families.networks.head import Head
from models.families.networks.tail import Tail

N = 24
SIDE = 32
FOLDS = Folds(kind="random", part=np.arange(N) % 3, near=np.zeros((N, 0), bool))
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=N)
COLOURS = RNG.normal(120, 20, (N, SIDE, SIDE, 3)) + 50 * SIGNAL[:, None, None, None] * [1, -1, 0]
PICTURES = np.clip(COLOURS, 0, 255).astype(np.uint8)
Y = np.column_stack([50 + 4 * SIGNAL, np.where(np.arange(N) % 5, -SIGNAL, np.nan)])
PARAMS = {"hidden": (8,), "dropout": 0.0, "epochs": 2, "batch": 8}
# each backend draws its own augmentation
WHOLE = {
    "warm_learning_rate": 1e-2,
    "learning_rate": 1e-3,
    "warm_epochs": 1,
    "zoom": (1.0, 1.0),
    "flips": False,
}


def build_tiny(
    weights: str | None = None, include_top: bool = False, input_shape: tuple[int, ...] = ()
) -> keras.Model:
    """Build three convolutions with batch norms, called as `keras.applications` are."""
    from keras import layers

    flow = given = keras.Input(input_shape)
    for number, width in enumerate((6, 8, 8), 1):
        flow = layers.Conv2D(width, 3, strides=2, padding="same", name=f"conv{number}")(flow)
        flow = layers.BatchNormalization(name=f"norm{number}")(flow)
        flow = layers.ReLU(name=f"relu{number}")(flow)
    return keras.Model(given, flow)


def register() -> None:
    """Make the small network one of the zoo, as `tiny`."""
    keras.applications.Tiny = build_tiny
    REGISTRY["tiny"] = Backbone("mobilenet_v2", "Tiny")


def write_tiny(path: Path) -> None:
    """Write weights of the small network, the same whatever Keras runs on."""
    rng = np.random.default_rng(7)
    with h5py.File(path, "w") as file:
        for layer in build_tiny(input_shape=(SIDE, SIDE, 3)).layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [w.name for w in layer.weights]
            for weight in layer.weights:
                is_kernel = len(weight.shape) == 4
                scale = np.sqrt(2 / np.prod(weight.shape[:-1])) if is_kernel else 0.1
                mean = float(weight.name in ("gamma", "moving_variance"))
                values = rng.normal(mean, scale, weight.shape)
                group[weight.name] = values.astype(np.float32)


def fit(model: Family, X: Features) -> np.ndarray:
    """Train on all rows, and predict them."""
    return model.fit(X, Y, folds=FOLDS, weight=np.ones(N)).predict(X)


def run(settings: ExtractSettings) -> dict[str, np.ndarray]:
    """Return embeddings, and what is predicted after training in three depths."""
    forward = open_forward(settings, "tiny", PICTURES, allow_random=False)
    rows = forward(PICTURES)
    weights = settings.extract.weights_of("tiny")
    maps = rows["relu2:map"]
    shape = forward.shapes["relu2:map"]
    of = {
        layer: Origin(backbone="tiny", layer=layer, size=SIDE, weights=weights)
        for layer in ("relu2", "")
    }
    pictures = Features(
        PICTURES.reshape(N, -1).astype(np.float32), grid=(SIDE, SIDE, 3), origin=of[""]
    )
    tail = Tail(**PARAMS, learning_rate=1e-2)
    seen = Features(maps.reshape(N, -1), grid=shape, origin=of["relu2"])
    found = {
        "head": fit(Head(**PARAMS, learning_rate=1e-2), Features(rows["relu3:avg"])),
        "tail": fit(tail, seen),
        "finetune": fit(Finetune(**PARAMS, **WHOLE), pictures),
    }
    return rows | found


if __name__ == "__main__":
    register()
    results = run(read_settings(Path(sys.argv[1]), ExtractSettings))
    np.savez(
        sys.argv[2],
        backend=keras.backend.backend(),
        **{name.replace("/", "."): one for name, one in results.items()},
    )
