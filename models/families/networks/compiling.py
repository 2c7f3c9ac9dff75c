"""How networks are compiled: what they are trained by, and how their errors are measured."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import keras

from models.families.training_rows import Task

# Steps of a small network that TensorFlow and JAX run in one call: with 12,000 tiles of 512
# features and batches of 32, an epoch of a head takes 0.6 s instead of 1.5 s.
_STEPS_PER_CALL = 16
_SMALL = 1_000_000  # weights

Errors = Callable[[Any, Any], Any]


def compile_model(model: Any, rate: float, task: Task, n_towers: int = 1) -> None:
    """Compile a model for Adam: squared error for numbers, cross entropy for classes."""
    backend = keras.backend.backend()
    if backend == "tensorflow":  # it warns of several compiled networks, which are meant here
        logger = logging.getLogger("tensorflow")
        logger.setLevel(logging.ERROR)
    errors = choose_errors(task, model.output_shape[-1], n_towers)

    def loss(labels: Any, outputs: Any) -> Any:
        of_towers = errors(labels, outputs)
        return keras.ops.sum(of_towers, axis=-1)

    is_small = model.count_params() < _SMALL and backend != "torch"
    metric = MeanErrors(errors, n_towers)
    model.compile(
        keras.optimizers.Adam(rate),
        loss,
        weighted_metrics=[metric],
        jit_compile=False if backend == "tensorflow" else "auto",
        steps_per_execution=_STEPS_PER_CALL if is_small else 1,
    )
    model.optimizer.build(model.trainable_variables)


class MeanErrors(keras.metrics.Metric):
    """Mean error of each tower over the rows of an epoch: (n_towers,).

    Parameters
    ----------
    errors : labels, outputs → (n_rows, n_towers).
    """

    def __init__(self, errors: Errors, n_towers: int) -> None:
        super().__init__(name="errors")
        self._errors = errors
        self._total = self.add_weight(shape=(n_towers,), initializer="zeros")
        self._count = self.add_weight(shape=(), initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the errors of a batch, each times the weight of its row."""
        errors = self._errors(y_true, y_pred)
        if sample_weight is not None:
            weight = keras.ops.reshape(sample_weight, (-1, 1))
            errors = errors * weight
        total = keras.ops.sum(errors, axis=0)
        self._total.assign_add(total)
        n_rows, _ = keras.ops.shape(errors)
        count = keras.ops.cast(n_rows, self.dtype)
        self._count.assign_add(count)

    def result(self) -> Any:
        """Return the means: (n_towers,)."""
        count = keras.ops.maximum(self._count, 1.0)
        return self._total / count


def choose_errors(task: Task, n_outputs: int, n_towers: int) -> Errors:
    """Return what a network is trained by: labels, outputs → (n_rows, n_towers).

    It is the cross entropy for classes; for numbers the squared error, of which a missing label
    (NaN) counts nothing, and which several outputs of one tower share.
    """

    def cross_entropy(labels: Any, outputs: Any) -> Any:
        errors = keras.losses.categorical_crossentropy(labels, outputs, from_logits=True)
        return keras.ops.expand_dims(errors, -1)

    def squared(labels: Any, outputs: Any) -> Any:
        is_known = keras.ops.isfinite(labels)
        errors = keras.ops.where(is_known, outputs - labels, 0.0)
        squares = keras.ops.square(errors)
        by_tower = keras.ops.reshape(squares, (-1, n_towers, n_outputs // n_towers))
        return keras.ops.mean(by_tower, axis=-1)

    if task == "class" and n_outputs > 1:  # one class alone needs no training
        return cross_entropy
    return squared
