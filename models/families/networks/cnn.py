"""A small convolutional network trained from scratch, on maps: the pictures themselves, or a layer of a network."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints
from models.data.features import Features
from models.families.family import Task
from models.families.networks.learning import Phase
from models.families.networks.map_network import Grid, MapNetwork, Program
from models.families.networks.training import compile_program, spread_of, training_policy


class Convolutional(MapNetwork):
    """Two 3 × 3 convolutions with max pooling, a dense layer, dropout before and after it; one network a target.

    Channels are standardised over the training rows. Training stops when the loss on the first inner fold has not fallen
    for `patience` epochs.

    Parameters
    ----------
    filters : of each convolution. dense : width of the dense layer.
    dropout : share of the values that is dropped. rate : of Adam. batch : rows of a step.
    epochs : at most. patience : epochs without a lower loss before training stops.
    seed : of weights, batches and dropout; the same for every target.
    """

    revision = 3
    name = "cnn"

    def __init__(
        self,
        filters: int = 32,
        dense: int = 64,
        dropout: float = 0.3,
        rate: float = 1e-3,
        batch: int = 32,
        epochs: int = 100,
        patience: int = 8,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.filters = filters
        self.dense = dense
        self.dropout = dropout
        self.rate = rate
        self.batch = batch
        self.epochs = epochs
        self.patience = patience
        self.seed = seed
        self.task = task

    def prepare(self, X: Features) -> None:
        """Measure mean and standard deviation of each channel."""
        n_channels = self.grid_[2]
        total = np.zeros(n_channels)
        squares = np.zeros(n_channels)
        n = 0
        for _, chunk in X.chunks():
            values = chunk.reshape(-1, n_channels)
            total += values.sum(axis=0, dtype=np.float64)
            squares += np.square(values, dtype=np.float64).sum(axis=0)
            n += len(values)
        self.x_mean_ = total / n
        self.x_scale_ = spread_of(np.sqrt(np.maximum(squares / n - self.x_mean_**2, 0)))

    def read(self, X: Features, rows: Ints, rng: np.random.Generator | None) -> NDArray[np.float32]:
        """Return standardised maps."""
        return ((super().read(X, rows, rng) - self.x_mean_) / self.x_scale_).astype(np.float32)

    def build(self, n_towers: int, n_outputs: int) -> Program:
        """Return the network; the same shapes give the same one, so that folds share its compilation."""
        model = build_cnn(
            self.grid_,
            n_towers * n_outputs,
            self.filters,
            self.dense,
            dropout=self.dropout,
            rate=self.rate,
            task=self.task,
        )
        phase = Phase(
            model=model, body=None, learning=frozenset(), epochs=self.epochs, patience=self.patience
        )
        return Program(phases=[phase], start=[])

    def network(self, column: int = 0) -> Any:
        """Return a Keras model from maps, as they are stored, to a target in its unit: (n, height, width, channels) → (n, 1)."""
        import keras

        given = keras.Input(self.grid_)
        scaled = keras.layers.Rescaling(
            (1 / self.x_scale_).tolist(), (-self.x_mean_ / self.x_scale_).tolist()
        )(given)
        return keras.Model(given, super().network(column)(scaled))

    def scales(self) -> dict[str, Floats]:
        """Return the channels' means and standard deviations."""
        return {"x_mean": self.x_mean_, "x_scale": self.x_scale_}


@lru_cache(maxsize=8)
def build_cnn(
    grid: Grid, n_outputs: int, filters: int, dense: int, *, dropout: float, rate: float, task: Task
) -> Any:
    """Return the compiled network; the same shapes give the same one, so that folds share its compilation.

    Raises
    ------
    ValueError : maps too small for two convolutions.
    """
    import keras
    from keras import layers

    if min(grid[:2]) < 10:
        raise ValueError(
            f"cnn: expected maps of at least 10 × 10, got {grid[0]} × {grid[1]}. Take a larger map."
        )
    with training_policy():
        flow = given = keras.Input(grid)
        for _ in range(2):
            flow = layers.MaxPooling2D(2)(layers.Conv2D(filters, 3, activation="relu")(flow))
        flow = layers.Dropout(dropout, seed=0)(layers.Flatten()(flow))
        flow = layers.Dropout(dropout, seed=0)(layers.Dense(dense, activation="relu")(flow))
        outputs = layers.Reshape((1, n_outputs))(layers.Dense(n_outputs, dtype="float32")(flow))
    return compile_program(keras.Model(given, outputs), rate, task)
