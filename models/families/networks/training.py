"""What the trained networks share: labels and losses of numbers and classes, batches of one size, a fresh start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from models.data.arrays import Floats, Ints, Matrix
from models.data.folds import Folds
from models.families.family import Task


def label_outputs(Y: Floats, weight: Floats, task: Task) -> NDArray[np.float32]:
    """Return what each tower learns from: (n_rows, n_towers, n_outputs + 1), labels of its outputs, and their weight.

    Parameters
    ----------
    Y : (n_rows, n_columns), NaN where missing, which weighs nothing. Numbers, standardised, have a tower each with one
        output; classes have one tower with an output each.
    """
    weights = ~np.isnan(Y) * weight[:, None]
    outputs = np.where(np.isnan(Y), 0.0, Y)
    outputs, weights = (
        (outputs[:, None], weights[:, :1]) if task == "class" else (outputs[..., None], weights)
    )
    return np.concatenate([outputs, weights[..., None]], axis=-1).astype(np.float32)


def inner_split(
    folds: Folds, is_labelled: NDArray[np.bool_]
) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """Return (training rows, held rows, towers that have labels in both): the first inner fold with the most such towers.

    Where there is none, all rows are both, for every tower.

    Parameters
    ----------
    is_labelled : (n_rows, n_towers), what weighs something.
    """
    every = np.arange(len(is_labelled))
    best: tuple[Ints, Ints, NDArray[np.bool_]] = (
        every,
        every,
        np.zeros(is_labelled.shape[1], dtype=bool),
    )
    for train, held in folds.splits():
        both = np.logical_and(is_labelled[train].any(axis=0), is_labelled[held].any(axis=0))
        if both.sum() > best[2].sum():
            best = train, held, both
    return best if best[2].any() else (every, every, ~best[2])


def held_loss(outputs: Matrix, labels: Matrix, task: Task) -> Floats:
    """Mean loss of each tower: squared error, or cross entropy of the softmax of its outputs: (n_towers,).

    Parameters
    ----------
    outputs : (n_rows, n_towers, n_outputs). labels : as `label_outputs` gives them.
    """
    truth = labels[..., :-1]
    weight = labels[..., -1]
    losses = (
        (outputs - truth) ** 2 if task == "number" else -truth * log_softmax(outputs, axis=-1)
    ).sum(axis=-1)
    loss: Floats = (weight * losses).sum(axis=0) / np.maximum(weight.sum(axis=0), 1)
    return loss


def make_loss(task: Task) -> Callable[[Any, Any], Any]:
    """Return the same loss for Keras; a sum over the towers, so that no tower's step depends on another's."""
    import keras

    def loss(labels: Any, outputs: Any) -> Any:
        losses, weight = row_losses(labels, outputs, task)
        return keras.ops.sum(
            keras.ops.sum(weight * losses, axis=0)
            / keras.ops.maximum(keras.ops.sum(weight, axis=0), 1.0)
        )

    return loss


def row_losses(labels: Any, outputs: Any, task: Task) -> tuple[Any, Any]:
    """Return the loss of each row and tower as Keras's tensors, and its weight: (n_rows, n_towers) each."""
    import keras

    # torch gives metrics an array
    labels = keras.ops.convert_to_tensor(labels)
    outputs = keras.ops.cast(outputs, "float32")
    truth = labels[..., :-1]
    weight = labels[..., -1]
    losses = (
        keras.ops.square(outputs - truth)
        if task == "number"
        else -truth * keras.ops.log_softmax(outputs, axis=-1)
    )
    return keras.ops.sum(losses, axis=-1), weight


def class_shares(outputs: NDArray[Any], share: Floats) -> Floats:
    """Probabilities of classes from the outputs of their tower, (n_rows, n_classes); one never trained on has no part.

    Parameters
    ----------
    share : (n_classes,), of each among the training rows.
    """
    shares: Floats = softmax(np.where(share > 0, outputs.astype(np.float64), -np.inf), axis=1)
    return shares


def draw_batches(
    n: int, batch: int, rng: np.random.Generator
) -> list[tuple[Ints, NDArray[np.float32]]]:
    """Return (rows, weights) of shuffled batches, all of one size, so that one program serves; padding weighs 0."""
    order = rng.permutation(n)
    padded = np.concatenate([order, np.zeros(-n % batch, dtype=order.dtype)])
    weight = (np.arange(len(padded)) < n).astype(np.float32)
    return list(zip(padded.reshape(-1, batch), weight.reshape(-1, batch), strict=True))


def find_policy() -> str:
    """Return what networks are trained in: mixed bfloat16 on a GPU that has it, else float32. Weights are float32 anyway."""
    from extract.networks.runtimes.selection import find_gpu

    gpu = find_gpu()
    return "mixed_bfloat16" if gpu is not None and gpu.has_bfloat16 else "float32"


@contextmanager
def training_policy() -> Iterator[None]:
    """Build networks inside in what they are trained in."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(find_policy())
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def compile_program(program: Any, rate: float, task: Task) -> Any:
    """Return a Keras model, compiled to be trained by Adam; its outputs are (n, n_towers, n_outputs) float32."""
    import keras

    class TowerLoss(keras.metrics.Metric):
        """The loss of each tower, as a mean over the rows of a batch."""

        def __init__(self, n_towers: int) -> None:
            super().__init__(name="tower_loss")
            self.total, self.count = (
                self.add_weight(shape=(n_towers,), initializer="zeros", name=n)
                for n in ("total", "count")
            )

        def update_state(self, labels: Any, outputs: Any, sample_weight: Any = None) -> None:  # noqa: ARG002
            losses, weight = row_losses(labels, keras.ops.stop_gradient(outputs), task)
            self.total.assign_add(keras.ops.sum(weight * losses, axis=0))
            self.count.assign_add(keras.ops.sum(weight, axis=0))

        def result(self) -> Any:
            return self.total / keras.ops.maximum(self.count, 1e-6)

    logging.getLogger("tensorflow").setLevel(
        logging.ERROR
    )  # it warns where several networks are compiled, as is meant here
    jit: Any = False if keras.backend.backend() == "tensorflow" else "auto"
    program.compile(
        keras.optimizers.Adam(rate),
        make_loss(task),
        metrics=[TowerLoss(program.output_shape[1])],
        jit_compile=jit,
    )
    program.optimizer.build(program.trainable_variables)
    return program


class EpochLoss:
    """Teaches a compiled model batch by batch, and keeps the mean loss of each tower over the rows of an epoch."""

    def __init__(self, program: Any) -> None:
        self._program = program
        self._total: Floats = np.zeros(1)
        self._count: Floats = np.zeros(1)

    def teach(self, inputs: NDArray[Any], labels: NDArray[np.float32]) -> None:
        """Make one step."""
        found = self._program.train_on_batch(inputs, labels, return_dict=True)["tower_loss"]
        count = labels[..., -1].sum(axis=0, dtype=np.float64)
        self._total = self._total + count * np.asarray(found, dtype=np.float64)
        self._count = self._count + count

    @property
    def mean(self) -> Floats:
        """Mean loss of each tower: (n_towers,)."""
        return self._total / np.maximum(self._count, 1e-6)


def clear_optimizer(program: Any) -> None:
    """Return a compiled model a fresh optimiser."""
    for variable in program.optimizer.variables:
        if "learning_rate" not in variable.path:
            variable.assign(np.zeros(variable.shape, dtype=str(variable.dtype)))


def seed_dropout(program: Any, seed: int, epoch: int) -> None:
    """Return every dropout of a model its seed for an epoch."""
    for i, layer in enumerate(
        layer for layer in program.layers if hasattr(layer, "seed_generator")
    ):
        first = (seed + 1_000_003 * epoch) % 2**31
        layer.seed_generator.state.assign(
            np.array([first, i], dtype=str(layer.seed_generator.state.dtype))
        )


def spread_of(scale: Floats) -> Floats:
    """Return a scale to divide by: 1 where nothing varies."""
    return np.where(scale > 1e-12, scale, 1.0)
