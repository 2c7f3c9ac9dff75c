"""What the tests share: where real data may lie, and a small experiment of tiles on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # threads that spin while they wait starve the tests beside: 0.3 s became 245
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and terminals would be as wide as it says

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    if not (SHARED / "data" / "london_lidar").is_dir():
        pytest.skip("real tiles and weights are not beside this checkout (../shared)")
    return SHARED


SETTINGS = """
name = "small"
out = "out"
[tiles]
table = "tiles.csv"
images = "tiles"
path = "{id}.png"
area = "area"
x = "x"
y = "y"
[targets]
columns = ["income"]
[extract]
cuts = ["mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"]
weights = "random:0"
size = 32
precision = "float32"
runtime = "keras"
batch = 4
shard = 5
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., Path]:
    """Write tiles, a table and a settings file; gives the settings' path."""

    def write(n: int = 12, replace: dict[str, str] | None = None, **columns: Any) -> Path:
        rng = np.random.default_rng(0)
        (tmp_path / "tiles").mkdir(exist_ok=True)
        for i in range(n):
            cv2.imwrite(
                str(tmp_path / "tiles" / f"{i}.png"),
                rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
            )
        table = {
            "id": range(n),
            "area": [f"A{i // 2}" for i in range(n)],
            "x": np.arange(n) * 200.0,
            "y": 0.0,
            "income": np.linspace(0, 1, n),
            **columns,
        }
        pd.DataFrame(table).to_csv(tmp_path / "tiles.csv", index=False)
        text = SETTINGS
        for old, new in (replace or {}).items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "small.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def decoders_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in the test's process, which saves the start of others."""
    from stub_decoders import DecodersHere

    monkeypatch.setattr("extract.loop.pipeline.DecoderPool", DecodersHere)


@pytest.fixture(scope="session")
def measured_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file of MobileNetV2: drawn, and its batch norms told what passes through it, so that
    signals reach its end.
    """
    import keras

    from extract.networks.backbones import load_base

    base = load_base("mobilenetv2", size=32, with_top=False, weights="random:0")
    rng = np.random.default_rng(0)
    pictures = (rng.normal(0, 0.3, (64, 32, 32, 3)) + rng.normal(0, 0.3, (64, 1, 1, 3))).astype(
        np.float32
    )
    norms = [layer for layer in base.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    for _ in range(2):
        base(pictures, training=True)
    path = tmp_path_factory.mktemp("weights") / "mobilenetv2.h5"
    with h5py.File(path, "w") as file:
        for layer in base.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [w.name for w in layer.weights]
            for weight, value in zip(layer.weights, layer.get_weights(), strict=True):
                group[weight.name] = value
    return path
