"""A small convolutional network trained from scratch, on maps: the pictures themselves, or a layer of a network."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.family import Chosen, Family, Floats, Ints, Task, labelled_groups
from models.features import Features
from models.folds import Folds
from models.training import (
    class_shares,
    compile_program,
    draw_batches,
    held_loss,
    label_outputs,
    reset_training,
    spread_of,
)

Grid = tuple[int, int, int]  # height, width, channels
_ASKED = 128  # rows of a forward pass


class _Trained(NamedTuple):
    """One network's weights, in the order of its variables, and the epochs that they took."""

    weights: list[NDArray[np.float32]]
    epochs: int


class Convolutional(Family):
    """Two 3 × 3 convolutions with max pooling, a dense layer, dropout before and after it; one network a target.

    Channels are standardised over the training rows. Training stops when the loss on the first inner fold has not fallen
    for `patience` epochs, and the best weights are kept; there is no second training on all rows. Numbers are standardised
    and come out of a linear output, classes out of one network's softmax.

    Parameters
    ----------
    filters : of each convolution. dense : width of the dense layer.
    dropout : share of the values that is dropped. rate : of Adam. batch : rows of a step.
    epochs : at most. patience : epochs without a lower loss before training stops.
    seed : of weights, batches and dropout; the same for every target.
    """

    def __init__(self, filters: int = 32, dense: int = 64, dropout: float = 0.3, rate: float = 1e-3, batch: int = 32,
                 epochs: int = 100, patience: int = 8, seed: int = 0, task: Task = "number") -> None:
        self.filters, self.dense, self.dropout, self.rate, self.batch = filters, dense, dropout, rate, batch
        self.epochs, self.patience, self.seed, self.task = epochs, patience, seed, task

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Train a network for every target, or one for all classes.

        Raises
        ------
        ValueError : rows that are no maps.
        """
        if X.grid is None:
            raise ValueError("cnn: expected a cut of pooling 'map', as 'pixels/100:map', whose rows have height, width and "
                             "channels; got vectors. Add such a cut to [extract], or remove 'cnn' from names.")
        self.grid_ = X.grid
        self.x_mean_, self.x_scale_ = self._measure(X)
        self.y_mean_, self.y_scale_ = np.nanmean(Y, axis=0), np.nanstd(Y, axis=0)
        scaled = Y if self.task == "class" else (Y - self.y_mean_) / spread_of(self.y_scale_)
        self.trained_: list[_Trained] = []
        for rows, columns in labelled_groups(Y):
            given = [scaled[np.ix_(rows, columns)]] if self.task == "class" else [scaled[rows, t][:, None] for t in columns]
            for y in given:
                self.trained_.append(self._train(X.rows(rows), label_outputs(y, weight[rows], self.task), folds.take(rows)))
        if self.task == "number":
            order = np.argsort(np.concatenate([columns for _, columns in labelled_groups(Y)]))
            self.trained_ = [self.trained_[i] for i in order]
        self.chosen_: list[Chosen] = [{"epochs": one.epochs} for one in self.trained_]
        return self

    def _measure(self, X: Features) -> tuple[Floats, Floats]:
        """Mean and standard deviation of each channel."""
        total, squares, n = np.zeros(self.grid_[2]), np.zeros(self.grid_[2]), 0
        for _, chunk in X.chunks():
            values = chunk.reshape(-1, self.grid_[2])
            total += values.sum(axis=0, dtype=np.float64)
            squares += np.square(values, dtype=np.float64).sum(axis=0)
            n += len(values)
        mean = total / n
        return mean, spread_of(np.sqrt(np.maximum(squares / n - mean**2, 0)))

    def _maps(self, X: Features, rows: Ints) -> NDArray[np.float32]:
        maps = X.rows(rows).array().reshape(-1, *self.grid_)
        return ((maps - self.x_mean_) / self.x_scale_).astype(np.float32)

    def _program(self, n_outputs: int) -> Any:
        return build_cnn(self.grid_, n_outputs, self.filters, self.dense, dropout=self.dropout, rate=self.rate, task=self.task)

    def _train(self, X: Features, labels: NDArray[np.float32], folds: Folds) -> _Trained:
        train, held = next(folds.splits(), (np.arange(len(X)), np.arange(len(X))))
        program, rng = self._program(labels.shape[2] - 1), np.random.default_rng(self.seed)
        reset_cnn(program, rng, self.seed)
        best, lowest, waited = _Trained(program.get_weights(), 0), np.inf, 0
        for epoch in range(self.epochs):
            for places, weight in draw_batches(len(train), self.batch, rng):
                rows = train[places]
                program.train_on_batch(self._maps(X, rows), labels[rows] * weight[:, None, None])
            loss = float(held_loss(self._run(program, X.rows(held)), labels[held], self.task)[0])
            waited += 1
            if loss < lowest:
                best, lowest, waited = _Trained(program.get_weights(), epoch + 1), loss, 0
            if waited >= self.patience:
                break
        n = len(program.trainable_variables)
        return best._replace(weights=[np.array(w, np.float32) for w in best.weights[:n]])

    def _run(self, program: Any, X: Features) -> NDArray[np.float32]:
        """Run a network forward: (n_rows, 1, n_outputs)."""
        pieces = []
        for start in range(0, len(X), _ASKED):
            rows = np.minimum(np.arange(start, start + _ASKED), len(X) - 1)  # filled up, so that one shape is compiled
            pieces.append(np.asarray(program.predict_on_batch(self._maps(X, rows)))[:len(X) - start])
        return np.concatenate(pieces)

    def predict(self, X: Features) -> Floats:
        """Run the networks: (n_rows, n_targets)."""
        outputs = []
        for one in self.trained_:
            program = self._program(len(one.weights[-1]))
            for variable, value in zip(program.trainable_variables, one.weights, strict=True):
                variable.assign(value)
            outputs.append(self._run(program, X)[:, 0])
        if self.task == "class":
            return class_shares(outputs[0], self.y_mean_)
        return np.hstack(outputs).astype(np.float64) * self.y_scale_ + self.y_mean_

    def save(self, folder: Path) -> None:
        """Write weights and scales as plain arrays, and the parameters as JSON."""
        arrays = {f"weight_{t}_{i}": w for t, one in enumerate(self.trained_) for i, w in enumerate(one.weights)}
        np.savez(folder / "cnn.npz", allow_pickle=False, x_mean=self.x_mean_, x_scale=self.x_scale_, y_mean=self.y_mean_,
                 y_scale=self.y_scale_, **arrays)
        text = {"params": self.get_params(), "chosen": self.chosen_, "grid": self.grid_}
        (folder / "cnn.json").write_text(json.dumps(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        text = json.loads((folder / "cnn.json").read_text())
        model = cls(**text["params"])
        model.chosen_, model.grid_ = text["chosen"], tuple(text["grid"])
        with np.load(folder / "cnn.npz", allow_pickle=False) as arrays:
            model.x_mean_, model.x_scale_ = arrays["x_mean"], arrays["x_scale"]
            model.y_mean_, model.y_scale_ = arrays["y_mean"], arrays["y_scale"]
            n = sum(name.startswith("weight_0_") for name in arrays)
            model.trained_ = [_Trained([arrays[f"weight_{t}_{i}"] for i in range(n)], one["epochs"])
                              for t, one in enumerate(model.chosen_)]
        return model


@lru_cache(maxsize=8)
def build_cnn(grid: Grid, n_outputs: int, filters: int, dense: int, *, dropout: float, rate: float, task: Task) -> Any:
    """Give the compiled network; the same shapes give the same one, so that folds share its compilation.

    Raises
    ------
    ValueError : maps too small for two convolutions.
    """
    import keras
    from keras import layers

    if min(grid[:2]) < 10:
        raise ValueError(f"cnn: expected maps of at least 10 × 10, got {grid[0]} × {grid[1]}. Take a larger map.")
    flow = given = keras.Input(grid)
    for _ in range(2):
        flow = layers.MaxPooling2D(2)(layers.Conv2D(filters, 3, activation="relu")(flow))
    flow = layers.Dropout(dropout, seed=0)(layers.Flatten()(flow))
    flow = layers.Dropout(dropout, seed=0)(layers.Dense(dense, activation="relu")(flow))
    return compile_program(keras.Model(given, layers.Reshape((1, n_outputs))(layers.Dense(n_outputs)(flow))), rate, task)


def reset_cnn(program: Any, rng: np.random.Generator, seed: int) -> None:
    """Give the network new weights (Glorot and Bengio 2010), a fresh optimiser, and the dropout its seed."""
    for variable in program.trainable_variables:
        shape = tuple(variable.shape)
        area = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (area * (shape[-2] + shape[-1]))) if len(shape) > 1 else 0.0
        variable.assign(rng.uniform(-limit, limit, shape).astype(np.float32))
    reset_training(program, seed)
