"""A dense head on the embedding; the heads of all targets are towers of one program, trained together."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.family import Family, Floats, Matrix, Task, labelled_groups
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

Weights = list[NDArray[np.float32]]  # kernel (n_targets, n_in, n_out) and bias (n_targets, n_out), layer by layer


class Head(Family):
    """Two ReLU layers with dropout and a linear output (health and crime can be negative), one tower a target.

    Classes are one tower with an output each, trained by the cross entropy of their softmax.

    Each tower stops by itself on the first inner fold and keeps its best weights; training ends when all have
    stopped. There is no second training on all rows, so that a tower never learns from the fold it was stopped on (one of
    four, of five folds). A nested prediction needs a training of its own, since the fold that stops one has been seen:
    with a stack in the grid a head costs twice. Labels are standardised, and given back in their unit. Prediction needs
    NumPy alone.
    """

    def __init__(self, hidden: tuple[int, ...] = (64, 64), dropout: float = 0.5, rate: float = 1e-3, batch: int = 32,
                 epochs: int = 200, min_delta: float = 1e-5, patience: int = 3, seed: int = 0, task: Task = "number") -> None:
        self.hidden, self.dropout, self.rate, self.batch = hidden, dropout, rate, batch
        self.epochs, self.min_delta, self.patience, self.seed, self.task = epochs, min_delta, patience, seed, task

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Train all towers; a missing label weighs nothing in its own tower."""
        matrix = X.array()
        for _ in labelled_groups(Y):
            pass
        self.x_mean_, self.x_scale_ = matrix.mean(axis=0, dtype=float), spread_of(matrix.std(axis=0, dtype=float))
        self.y_mean_, self.y_scale_ = np.nanmean(Y, axis=0), np.nanstd(Y, axis=0)
        Z, labels = self._scale(matrix), label_outputs(self._scale_labels(Y), weight, self.task)
        train, held = next(folds.splits(), (np.arange(len(Y)), np.arange(len(Y))))
        self._train(Z[train], labels[train], Z[held], labels[held])
        return self

    def _scale_labels(self, Y: Floats) -> Floats:
        return Y if self.task == "class" else (Y - self.y_mean_) / spread_of(self.y_scale_)

    def _train(self, X: Matrix, labels: NDArray[np.float32], held: Matrix, held_labels: NDArray[np.float32]) -> None:
        n_targets, rng = labels.shape[1], np.random.default_rng(self.seed)
        program = build_program(X.shape[1], n_targets, labels.shape[2] - 1, tuple(self.hidden), dropout=self.dropout,
                                rate=self.rate, task=self.task)
        reset_program(program, rng, self.seed)
        best, best_epoch = np.full(n_targets, np.inf), np.zeros(n_targets, dtype=int)
        waited, self.weights_ = np.zeros(n_targets, dtype=int), [w.copy() for w in program.get_weights()[:2 * self._depth]]
        for epoch in range(self.epochs):
            for rows, weight in draw_batches(len(X), self.batch, rng):
                program.train_on_batch(X[rows], labels[rows] * weight[:, None, None])
            weights = program.get_weights()[:2 * self._depth]
            loss = held_loss(run_towers(weights, held), held_labels, self.task)
            is_better = (loss < best - self.min_delta) & (waited < self.patience)
            for kept, now in zip(self.weights_, weights, strict=True):
                kept[is_better] = now[is_better]
            best, best_epoch = np.where(is_better, loss, best), np.where(is_better, epoch + 1, best_epoch)
            waited = np.where(is_better, 0, waited + 1)
            if (waited >= self.patience).all():
                break
        self.chosen_ = [{"epochs": int(best_epoch[t])} for t in range(n_targets)]

    @property
    def _depth(self) -> int:
        return len(self.hidden) + 1

    def _scale(self, X: Matrix) -> NDArray[np.float32]:
        return ((X - self.x_mean_) / self.x_scale_).astype(np.float32)

    def predict(self, X: Features) -> Floats:
        """Run the towers: (n_rows, n_targets)."""
        outputs = run_towers(self.weights_, self._scale(X.array())).astype(np.float64)
        if self.task == "class":
            return class_shares(outputs[:, 0], self.y_mean_)
        return outputs[..., 0] * self.y_scale_ + self.y_mean_

    def save(self, folder: Path) -> None:
        """Write weights and scales as plain arrays, and the parameters as JSON."""
        arrays = {f"weight_{i}": w for i, w in enumerate(self.weights_)}
        np.savez(folder / "head.npz", allow_pickle=False, x_mean=self.x_mean_, x_scale=self.x_scale_, y_mean=self.y_mean_,
                 y_scale=self.y_scale_, **arrays)
        text = {"params": self.get_params(), "chosen": self.chosen_}
        (folder / "head.json").write_text(json.dumps(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        text = json.loads((folder / "head.json").read_text())
        model = cls(**{**text["params"], "hidden": tuple(text["params"]["hidden"])})
        model.chosen_ = text["chosen"]
        with np.load(folder / "head.npz", allow_pickle=False) as arrays:
            model.x_mean_, model.x_scale_ = arrays["x_mean"], arrays["x_scale"]
            model.y_mean_, model.y_scale_ = arrays["y_mean"], arrays["y_scale"]
            model.weights_ = [arrays[f"weight_{i}"] for i in range(2 * model._depth)]
        return model


def run_towers(weights: Weights, X: Matrix) -> NDArray[np.float32]:
    """Run the towers forward without dropout: (n_tiles, n_towers, n_outputs)."""
    flow: Any = X
    for i in range(0, len(weights), 2):
        flow = np.matmul(flow, weights[i]) + weights[i + 1][:, None]
        if i + 2 < len(weights):
            flow = np.maximum(flow, 0)
    return np.ascontiguousarray(np.swapaxes(flow, 0, 1))


@lru_cache(maxsize=8)
def build_program(n_features: int, n_targets: int, n_outputs: int, hidden: tuple[int, ...], *, dropout: float, rate: float,
                  task: Task) -> Any:
    """Give the compiled towers; the same shapes give the same program, so that folds share its compilation."""
    import keras

    class Towers(keras.layers.Layer):
        """A dense layer for each target: kernels (n_targets, n_in, n_out)."""

        def __init__(self, units: int) -> None:
            super().__init__()
            self.units = units

        def build(self, shape: tuple[int, ...]) -> None:
            self.kernel = self.add_weight(shape=(n_targets, shape[-1], self.units), name="kernel")
            self.bias = self.add_weight(shape=(n_targets, self.units), initializer="zeros", name="bias")

        def call(self, x: Any) -> Any:
            rule = "bi,tio->bto" if len(x.shape) == 2 else "bti,tio->bto"
            return keras.ops.einsum(rule, x, self.kernel) + self.bias

    flow = given = keras.Input((n_features,))
    for units in hidden:
        flow = keras.layers.Dropout(dropout, seed=0)(keras.ops.relu(Towers(units)(flow)))
    return compile_program(keras.Model(given, Towers(n_outputs)(flow)), rate, task)


def reset_program(program: Any, rng: np.random.Generator, seed: int) -> None:
    """Give the towers new weights (Glorot and Bengio 2010), a fresh optimiser, and the dropout its seed."""
    for variable in program.trainable_variables:
        shape = tuple(variable.shape)
        limit = np.sqrt(6 / (shape[-2] + shape[-1])) if len(shape) == 3 else 0.0
        variable.assign(rng.uniform(-limit, limit, shape).astype(np.float32))
    reset_training(program, seed)
