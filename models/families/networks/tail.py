"""What stands after a cut in the pretrained network, trained further with a head, from cached maps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from extract.networks.registry import Origin
from models.data.features import Features
from models.families.family import Task
from models.families.networks.learning import Phase, read_weights
from models.families.networks.map_network import MapNetwork, Program
from models.families.networks.training import compile_program, training_policy

Pool = Literal["flat", "avg"]


class Tail(MapNetwork):
    """The pretrained layers after a `map` cut and a dense head on them; the layers before never run again.

    `vgg16/block5_conv1:map` leaves `block5_conv2` and `block5_conv3` to train: the recipe of freezing all but the last two
    convolutions. The layers begin with the very weights that the embeddings were made with; their batch norms keep what
    they had measured (Keras's guide to fine-tuning). One network a target, each from the same start.

    Parameters
    ----------
    hidden : widths of the head's ReLU layers. pool : the last map as it is (`flat`) or its mean over the places (`avg`).
    dropout : share of the head's values that is dropped. rate : of Adam, for all layers. batch : rows of a step.
    epochs : at most. patience : epochs in which the loss on the first inner fold does not fall by `min_delta`, in
        squared standard deviations of the target, before training stops.
    joint : one network for all targets, with an output each, instead of one network a target.
    seed : of the head's weights, batches and dropout; the same for every target.
    """

    name = "tail"

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        pool: Pool = "flat",
        dropout: float = 0.5,
        rate: float = 1e-4,
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
        self.rate = rate
        self.batch = batch
        self.epochs = epochs
        self.min_delta = min_delta
        self.patience = patience
        self.joint = joint
        self.seed = seed
        self.task = task

    def check(self, X: Features) -> None:
        """Refuse what is no map of a network.

        Raises
        ------
        ValueError : vectors, or maps without a network that made them.
        """
        super().check(X)
        if X.origin is None:
            raise ValueError(
                "tail: expected maps that a network of Roofline made, so that it can be gone on with; got others "
                "(imported, or pictures). Take another cut, or remove 'tail' from names."
            )

    def build(self, n_towers: int, n_outputs: int) -> Program:
        """Return the network; the same shapes and origin give the same one, so that folds share its compilation."""
        model, start = build_tail_program(
            self.origin_,
            n_towers,
            n_outputs,
            tuple(self.hidden),
            pool=self.pool,
            dropout=self.dropout,
            rate=self.rate,
            task=self.task,
        )
        phase = Phase(
            model=model, body=None, learning=frozenset(), epochs=self.epochs, patience=self.patience
        )
        return Program(phases=[phase], start=start)


@lru_cache(maxsize=2)
def build_tail_program(
    origin: Origin,
    n_towers: int,
    n_outputs: int,
    hidden: tuple[int, ...],
    *,
    pool: Pool,
    dropout: float,
    rate: float,
    task: Task,
) -> tuple[Any, list[Any]]:
    """Return the compiled tail with its head, and the weights that its body starts from."""
    import keras

    from extract.networks.tails import build_tail

    with training_policy():
        body = build_tail(origin)
        given = keras.Input(body.inputs[0].shape[1:], dtype="float32")
        flow = body(given)
        model = keras.Model(
            given, build_head(flow, n_towers, n_outputs, hidden, pool=pool, dropout=dropout)
        )
    return compile_program(model, rate, task), read_weights(body)


def build_head(
    flow: Any, n_towers: int, n_outputs: int, hidden: tuple[int, ...], *, pool: Pool, dropout: float
) -> Any:
    """Put a dense head on a map: ReLU layers with dropout, a linear output in float32; (n, n_towers, n_outputs)."""
    from keras import layers

    flow = (layers.Flatten() if pool == "flat" else layers.GlobalAveragePooling2D())(flow)
    for units in hidden:
        flow = layers.Dropout(dropout, seed=0)(layers.Dense(units, activation="relu")(flow))
    return layers.Reshape((n_towers, n_outputs))(
        layers.Dense(n_towers * n_outputs, dtype="float32")(flow)
    )
