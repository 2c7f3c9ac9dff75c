"""A whole network trained from the pictures: the head first, then everything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from extract.config.suggestions import suggest
from extract.networks.registry import Origin
from models.data.features import Features
from models.families.networks.checkpoints import Phase
from models.families.networks.network_family import Compiled, NetworkFamily, check_is_map
from models.families.training_rows import Task


class Finetune(NetworkFamily):
    """The network that its name gives, end to end, from the pictures of a cut of `pixels`.

    First the head is trained while the network is frozen, then all layers; the network's batch
    norms keep their statistics. The weights with the lowest held-out loss, over both phases, are
    kept.

    Parameters
    ----------
    hidden, pool, dropout, batch, min_delta, patience, joint, seed :
        as those of `models.families.networks.tail.Tail`.
    warm_epochs, warm_learning_rate : epochs of the head alone, and Adam's rate in them.
    epochs, learning_rate : maximum number of epochs of all layers after that, and their rate.
    frozen : last layer of the network that stays as it is; none if empty.
    zoom : training pictures are drawn larger or smaller by a factor between these.
    flips : training pictures are mirrored at random, left to right and top to bottom.
    """

    revision = 4
    name = "finetune"

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        pool: Literal["flat", "avg"] = "flat",
        dropout: float = 0.5,
        warm_learning_rate: float = 1e-5,
        learning_rate: float = 1e-6,
        warm_epochs: int = 2,
        epochs: int = 50,
        batch: int = 32,
        min_delta: float = 1e-5,
        patience: int = 3,
        frozen: str = "",
        zoom: tuple[float, float] = (0.8, 1.2),
        flips: bool = True,
        joint: bool = False,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.hidden = hidden
        self.pool = pool
        self.dropout = dropout
        self.warm_learning_rate = warm_learning_rate
        self.learning_rate = learning_rate
        self.warm_epochs = warm_epochs
        self.epochs = epochs
        self.batch = batch
        self.min_delta = min_delta
        self.patience = patience
        self.frozen = frozen
        self.zoom = zoom
        self.flips = flips
        self.joint = joint
        self.seed = seed
        self.task = task

    def check(self, X: Features) -> None:
        """Check that rows are pictures, and that a network is named.

        Raises
        ------
        ValueError : vectors, maps, or no network named.
        """
        check_is_map(X, self.name)
        if X.origin is None or X.origin.layer:
            raise ValueError(
                "finetune: expected pictures, of a cut as 'pixels/224:map', and a network, as in "
                "'finetune:vgg16'"
            )

    def build(self, n_outputs: int, origin: Origin) -> Compiled:
        """Build and compile the network, one model a phase, with the pretrained weights.

        Raises
        ------
        ValueError : `frozen` is no layer of the network.
        """
        import keras

        from extract.networks.tails import build_preprocess, build_tail
        from models.families.networks import layers
        from models.families.networks.compiling import compile_model

        with layers.training_policy():
            body = build_tail(origin)
            given = keras.Input(self.shape_, dtype="float32")
            flow = given
            for layer in self.augmentation():
                flow = layer(flow)
            flow = body(build_preprocess(origin.backbone)(flow))
            flow = layers.add_pooling(flow, self.pool)
            outputs = layers.add_dense(
                flow, self.hidden, n_outputs, dropout=self.dropout, seed=self.seed
            )
        warm = (self.warm_learning_rate, self.warm_epochs, self.warm_epochs + 1, frozenset[str]())
        whole = (self.learning_rate, self.epochs, self.patience, self._trainable(origin, body))
        phases = []
        for rate, epochs, patience, trainable in (warm, whole):
            model = keras.Model(given, outputs)
            phase = Phase(model, epochs, patience, body=body, trainable=trainable)
            phase.set_trainable()
            compile_model(model, rate, self.task)
            phases.append(phase)
        return phases, body.get_weights()

    def augmentation(self) -> Iterator[Any]:
        """Return layers that zoom and mirror pictures in training, and pass them on elsewhere."""
        import keras

        if self.zoom != (1.0, 1.0):
            least, most = self.zoom  # Keras's factor: by how much more of the picture is seen
            factors = (1 / most - 1, 1 / least - 1)
            yield keras.layers.RandomZoom(
                factors, fill_mode="reflect", seed=self.seed, dtype="float32"
            )
        if self.flips:  # in one layer both ways would be drawn together
            for number, mode in enumerate(("horizontal", "vertical")):
                yield keras.layers.RandomFlip(mode, seed=self.seed + number, dtype="float32")

    def _trainable(self, origin: Origin, body: Any) -> frozenset[str]:
        names = [layer.name for layer in body.layers]
        if not self.frozen:
            return frozenset(names)
        if self.frozen not in names:
            raise ValueError(
                f"finetune: frozen: {origin.backbone} has no layer {self.frozen!r}."
                f"{suggest(self.frozen, names)}"
            )
        return frozenset(names[names.index(self.frozen) + 1 :])
