"""A dense head on the embedding; the heads of all targets are towers of one program, trained together."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.data.arrays import Floats, Ints, Matrix
from models.data.features import Features
from models.data.folds import Folds
from models.families.family import Epoch, Family, Task, labelled_groups
from models.families.networks.learning import check_finite, tell_epoch
from models.families.networks.training import (
    EpochLoss,
    class_shares,
    clear_optimizer,
    compile_program,
    draw_batches,
    held_loss,
    inner_split,
    label_outputs,
    seed_dropout,
    spread_of,
)

Weights = list[
    NDArray[np.float32]
]  # kernel (n_towers, n_in, n_out) and bias (n_towers, n_out), layer by layer


class Head(Family):
    """Two ReLU layers with dropout and a linear output (health and crime can be negative), one tower a target.

    Classes are one tower with an output each, trained by the cross entropy of their softmax.

    Each tower stops by itself on the first inner fold, or the first that has labels for it, and keeps its best weights;
    training ends when all have stopped. There is no second training on all rows, so that a tower never learns from the
    fold it was stopped on (one of four, of five folds). A nested prediction needs a training of its own, since the fold
    that stops one has been seen: with a stack in the grid a head costs twice. Labels are standardised, and given back in
    their unit. Prediction needs NumPy alone.

    All towers begin with the same weights, see the same batches and drop the same units, so that a target's tower does not
    depend on which others are trained beside it: it is the one that training it alone gives, but for rounding.
    """

    revision = 3  # towers begin with the same weights, and drop the same units
    is_joint = False  # all targets share the layers, and each has an output

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        dropout: float = 0.5,
        rate: float = 1e-3,
        batch: int = 32,
        epochs: int = 200,
        min_delta: float = 1e-5,
        patience: int = 3,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.rate = rate
        self.batch = batch
        self.epochs = epochs
        self.min_delta = min_delta
        self.patience = patience
        self.seed = seed
        self.task = task

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Train all towers; a missing label weighs nothing in its own tower.

        Raises
        ------
        DivergedError : a loss is no number.
        """
        matrix = X.array()
        for _ in labelled_groups(Y):
            pass
        self.x_mean_ = matrix.mean(axis=0, dtype=float)
        self.x_scale_ = spread_of(matrix.std(axis=0, dtype=float))
        self.y_mean_ = np.nanmean(Y, axis=0)
        self.y_scale_ = np.nanstd(Y, axis=0)
        Z = self._scale(matrix)
        labels = label_outputs(self._scale_labels(Y), weight, self.task)
        self.weights_: Weights = []
        curves: list[list[Epoch]] = [[] for _ in labels[0]]
        self.curves_ = curves
        self.chosen_ = [{} for _ in labels[0]]
        left = np.arange(labels.shape[1])
        while len(left):
            train, held, both = inner_split(folds, labels[:, left, -1] > 0)
            columns = left if self.is_joint else left[both]
            stop = self._train(
                Z[train], labels[train][:, columns], Z[held], labels[held][:, columns], columns
            )
            self._keep(stop, columns, curves)
            left = np.setdiff1d(left, columns)
        return self

    def _keep(self, stop: _Stop, columns: Ints, curves: list[list[Epoch]]) -> None:
        """Put the best weights of some towers beside those of the others."""
        if self.is_joint or len(columns) == len(curves):
            self.weights_ = stop.best
        else:
            self.weights_ = self.weights_ or [
                np.zeros((len(curves), *w.shape[1:]), np.float32) for w in stop.best
            ]
            for whole, best in zip(self.weights_, stop.best, strict=True):
                whole[columns] = best
        for column, curve, epoch in zip(columns, stop.curves(), stop.best_epoch, strict=True):
            curves[column], self.chosen_[column] = curve, {"epochs": int(epoch)}

    def _scale_labels(self, Y: Floats) -> Floats:
        return Y if self.task == "class" else (Y - self.y_mean_) / spread_of(self.y_scale_)

    def _train(
        self,
        X: Matrix,
        labels: NDArray[np.float32],
        held: Matrix,
        held_labels: NDArray[np.float32],
        columns: Ints,
    ) -> _Stop:
        program = self._build(X.shape[1], labels.shape)
        rng = np.random.default_rng(self.seed)
        reset_program(program, rng, self.seed)
        stop = _Stop(self, columns, weights=self._weights_of(program))
        for epoch in range(1, self.epochs + 1):
            mean = EpochLoss(program)
            for rows, weight in draw_batches(len(X), self.batch, rng):
                mean.teach(X[rows], labels[rows] * weight[:, None, None])
            weights = self._weights_of(program)
            stop.look(
                epoch,
                mean.mean,
                held_loss(self._outputs(weights, held), held_labels, self.task),
                weights,
            )
            if stop.is_over:
                break
        return stop

    def _build(self, n_features: int, shape: tuple[int, ...]) -> Any:
        n_towers, n_outputs = (
            (1, shape[1]) if self.is_joint and self.task == "number" else (shape[1], shape[2] - 1)
        )
        return build_program(
            n_features,
            n_towers,
            n_outputs,
            tuple(self.hidden),
            dropout=self.dropout,
            rate=self.rate,
            task=self.task,
            is_joint=self.is_joint,
        )

    def _weights_of(self, program: Any) -> Weights:
        return [
            np.array(w, np.float32) for w in program.get_weights()[: 2 * (len(self.hidden) + 1)]
        ]

    def _outputs(self, weights: Weights, X: Matrix) -> NDArray[np.float32]:
        """Run the towers: (n_rows, n_targets, n_outputs)."""
        outputs = run_towers(weights, X)
        return np.swapaxes(outputs, 1, 2) if self.is_joint and self.task == "number" else outputs

    def _scale(self, X: Matrix) -> NDArray[np.float32]:
        return ((X - self.x_mean_) / self.x_scale_).astype(np.float32)

    def predict(self, X: Features) -> Floats:
        """Run the towers: (n_rows, n_targets)."""
        outputs = self._outputs(self.weights_, self._scale(X.array())).astype(np.float64)
        if self.task == "class":
            return class_shares(outputs[:, 0], self.y_mean_)
        return outputs[..., 0] * self.y_scale_ + self.y_mean_

    def network(self, column: int = 0) -> Any:
        """Return a Keras model from an embedding, as it is stored, to a target in its unit, or a class's probability.

        Returns
        -------
        (n, n_features) float32 → (n, 1). The scales of the features stand in its first layer.
        """
        import keras

        tower, output = (column, 0) if self.task == "number" and not self.is_joint else (0, column)
        flow = given = keras.Input((len(self.x_mean_),))
        for i in range(0, len(self.weights_), 2):
            kernel, bias = (w[tower].astype(np.float64) for w in self.weights_[i : i + 2])
            if not i:
                kernel = kernel / self.x_scale_[:, None]
                bias = bias - self.x_mean_ @ kernel
            is_last = i + 2 == len(self.weights_)
            layer = keras.layers.Dense(
                kernel.shape[1], activation=None if is_last else "relu", dtype="float32"
            )
            flow = layer(flow)
            layer.set_weights([kernel, bias])
        if self.task == "class":
            return keras.Model(given, keras.layers.Softmax()(flow)[:, output : output + 1])
        scale = float(self.y_scale_[column])
        offset = float(self.y_mean_[column])
        return keras.Model(
            given, keras.layers.Rescaling(scale, offset)(flow[:, output : output + 1])
        )

    def save(self, folder: Path) -> None:
        """Write weights and scales as plain arrays, and the parameters as JSON."""
        arrays = {f"weight_{i}": w for i, w in enumerate(self.weights_)}
        np.savez(
            folder / "head.npz",
            allow_pickle=False,
            x_mean=self.x_mean_,
            x_scale=self.x_scale_,
            y_mean=self.y_mean_,
            y_scale=self.y_scale_,
            **arrays,
        )
        text = {"params": self.get_params(), "chosen": self.chosen_}
        (folder / "head.json").write_text(json.dumps(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        text = json.loads((folder / "head.json").read_text())
        model = cls(**{**text["params"], "hidden": tuple(text["params"]["hidden"])})
        model.chosen_ = text["chosen"]
        with np.load(folder / "head.npz", allow_pickle=False) as arrays:
            model.x_mean_ = arrays["x_mean"]
            model.x_scale_ = arrays["x_scale"]
            model.y_mean_ = arrays["y_mean"]
            model.y_scale_ = arrays["y_scale"]
            model.weights_ = [arrays[f"weight_{i}"] for i in range(2 * (len(model.hidden) + 1))]
        return model


class JointHead(Head):
    """A head whose layers all targets share, with an output each; it stops by the mean of their losses."""

    is_joint = True


class _Stop:
    """Decides when each tower stops, and keeps its best weights and its curve."""

    def __init__(self, head: Head, columns: Ints, *, weights: Weights) -> None:
        self._head = head
        self._columns = columns
        self.best = weights
        n_targets = len(columns)
        self._lowest = np.full(n_targets, np.inf)
        self._waited = np.zeros(n_targets, dtype=int)
        self.best_epoch = np.zeros(n_targets, dtype=int)
        self._seen: list[tuple[Floats, Floats]] = []
        self._ended = np.zeros(n_targets, dtype=int)

    def look(self, epoch: int, loss: Floats, held: Floats, weights: Weights) -> None:
        """Take in an epoch: losses of each target, (n_targets,) each."""
        head = self._head
        is_running = self._waited < self._head.patience
        for t in np.flatnonzero(is_running):
            where = f"{head.where.name(int(self._columns[t]))}, epoch {epoch}"
            check_finite(loss[t : t + 1], held[t : t + 1], where, best=int(self.best_epoch[t]))
        judged = np.full_like(held, held.mean()) if head.is_joint else held
        is_better = (judged < self._lowest - head.min_delta) & is_running
        for kept, now in zip(self.best, weights, strict=True):
            kept[is_better[: len(kept)]] = now[is_better[: len(kept)]]
        self._lowest = np.where(is_better, judged, self._lowest)
        self.best_epoch = np.where(is_better, epoch, self.best_epoch)
        self._waited = np.where(is_better, 0, self._waited + 1)
        self._seen.append((loss, held))
        self._ended[is_running] = epoch
        tell_epoch(
            head.where.held or "all",
            epoch,
            float(loss.mean()),
            float(held.mean()),
            is_best=bool(is_better.any()),
        )

    @property
    def is_over(self) -> bool:
        """Return whether every tower has stopped."""
        return bool((self._waited >= self._head.patience).all())

    def curves(self) -> list[list[Epoch]]:
        """Return the learning curve of each target, to where it stopped."""
        return [
            [
                Epoch(e, float(loss[t]), float(held[t]), e == self.best_epoch[t])
                for e, (loss, held) in enumerate(self._seen[: self._ended[t]], 1)
            ]
            for t in range(len(self._ended))
        ]


def run_towers(weights: Weights, X: Matrix) -> NDArray[np.float32]:
    """Run the towers forward without dropout: (n_tiles, n_towers, n_outputs)."""
    flow: Any = X
    for i in range(0, len(weights), 2):
        flow = np.matmul(flow, weights[i]) + weights[i + 1][:, None]
        if i + 2 < len(weights):
            flow = np.maximum(flow, 0)
    return np.ascontiguousarray(np.swapaxes(flow, 0, 1))


@lru_cache(maxsize=8)
def build_program(
    n_features: int,
    n_towers: int,
    n_outputs: int,
    hidden: tuple[int, ...],
    *,
    dropout: float,
    rate: float,
    task: Task,
    is_joint: bool,
) -> Any:
    """Return the compiled towers; the same shapes give the same program, so that folds share its compilation."""
    import keras

    class Towers(keras.layers.Layer):
        """A dense layer for each tower: kernels (n_towers, n_in, n_out)."""

        def __init__(self, units: int) -> None:
            super().__init__()
            self.units = units

        def build(self, shape: tuple[int, ...]) -> None:
            self.kernel = self.add_weight(shape=(n_towers, shape[-1], self.units), name="kernel")
            self.bias = self.add_weight(
                shape=(n_towers, self.units), initializer="zeros", name="bias"
            )

        def call(self, x: Any) -> Any:
            rule = "bi,tio->bto" if len(x.shape) == 2 else "bti,tio->bto"
            return keras.ops.einsum(rule, x, self.kernel) + self.bias

    flow = given = keras.Input((n_features,), dtype="float32")
    for units in hidden:
        flow = keras.layers.Dropout(dropout, noise_shape=(None, 1, units), seed=0)(
            keras.ops.relu(Towers(units)(flow))
        )
    outputs = Towers(n_outputs)(flow)
    if is_joint and task == "number":
        outputs = keras.layers.Reshape((n_outputs, 1))(outputs)
    return compile_program(keras.Model(given, outputs), rate, task)


def reset_program(program: Any, rng: np.random.Generator, seed: int) -> None:
    """Return every tower the same new weights (Glorot and Bengio 2010), a fresh optimiser, and the dropout its seed."""
    for variable in program.trainable_variables:
        shape = tuple(variable.shape)
        limit = np.sqrt(6 / (shape[-2] + shape[-1])) if len(shape) == 3 else 0.0
        variable.assign(
            np.broadcast_to(rng.uniform(-limit, limit, shape[1:]).astype(np.float32), shape)
        )
    clear_optimizer(program)
    seed_dropout(program, seed, 0)
