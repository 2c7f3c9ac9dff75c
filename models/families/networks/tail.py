"""Layers of a pretrained network after a cut, trained further with a head from cached maps."""

from __future__ import annotations

from typing import Literal

from extract.networks.registry import Origin
from models.data.features import Features
from models.families.networks.network_family import Compiled, NetworkFamily, check_is_map
from models.families.training_rows import Task


class Tail(NetworkFamily):
    """The pretrained layers after a `map` cut with a dense head; the layers before never run again.

    `vgg16/block5_conv1:map` leaves `block5_conv2` and `block5_conv3` to train: the recipe of
    freezing all but the last two convolutions. The layers start with the very weights that the
    embeddings were made with; their batch norms keep their statistics (Keras's guide to
    fine-tuning).

    Parameters
    ----------
    hidden : widths of the head's ReLU layers.
    pool : the last map as it is (`flat`), or its mean over the places (`avg`).
    dropout : share of the head's values that is dropped.
    learning_rate : of Adam, for all layers. batch : rows of a step. epochs : maximum number.
    min_delta, patience : training stops after `patience` epochs in which the held-out loss, in
        squared standard deviations of the target, does not fall by `min_delta`.
    joint : one network for all targets, with an output each, instead of one network a target.
    seed : of the head's weights, batches and dropout; the same for every target.
    """

    revision = 4
    name = "tail"

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        pool: Literal["flat", "avg"] = "flat",
        dropout: float = 0.5,
        learning_rate: float = 1e-4,
        batch: int = 32,
        epochs: int = 50,
        min_delta: float = 1e-5,
        patience: int = 3,
        joint: bool = False,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.hidden = hidden
        self.pool = pool
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch = batch
        self.epochs = epochs
        self.min_delta = min_delta
        self.patience = patience
        self.joint = joint
        self.seed = seed
        self.task = task

    def check(self, X: Features) -> None:
        """Check that rows are maps of a network.

        Raises
        ------
        ValueError : vectors, or maps without a network that made them.
        """
        check_is_map(X, self.name)
        if X.origin is None:
            raise ValueError(
                "tail: expected maps of a pretrained network, whose training can continue from "
                "there; got others (imported, or pictures). Take another cut, or remove 'tail' "
                "from names."
            )

    def build(self, n_outputs: int, origin: Origin) -> Compiled:
        """Build and compile the network, with the pretrained weights in its first layers."""
        import keras

        from extract.networks.tails import build_tail
        from models.families.networks import layers

        with layers.training_policy():
            body = build_tail(origin)
            given = keras.Input(body.inputs[0].shape[1:], dtype="float32")
            flow = layers.add_pooling(body(given), self.pool)
            outputs = layers.add_dense(
                flow, self.hidden, n_outputs, dropout=self.dropout, seed=self.seed
            )
        return self.single_phase(given, outputs), body.get_weights()
