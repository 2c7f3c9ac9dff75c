"""A small convolutional network, trained from scratch on pictures or on maps of a network."""

from __future__ import annotations

from extract.networks.registry import Origin
from models.data.features import Features
from models.families.networks.network_family import Compiled, NetworkFamily, check_is_map
from models.families.training_rows import Task

_SMALLEST = 10  # side of a map that two convolutions and two poolings leave something of


class Convolutional(NetworkFamily):
    """Two 3 × 3 convolutions with max pooling, and a dense layer with dropout around it.

    Channels are standardised over the training rows.

    Parameters
    ----------
    filters : of each convolution. dense : width of the dense layer.
    dropout : share of the values that is dropped. learning_rate : of Adam. batch : rows of a step.
    epochs : maximum number. patience : epochs without a lower held-out loss before it stops.
    seed : of weights, batches and dropout; the same for every target.
    """

    revision = 4
    name = "cnn"

    def __init__(
        self,
        filters: int = 32,
        dense: int = 64,
        dropout: float = 0.3,
        learning_rate: float = 1e-3,
        batch: int = 32,
        epochs: int = 100,
        patience: int = 8,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.filters = filters
        self.dense = dense
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch = batch
        self.epochs = epochs
        self.patience = patience
        self.seed = seed
        self.task = task

    def check(self, X: Features) -> None:
        """Check that rows are maps of at least 10 × 10.

        Raises
        ------
        ValueError : vectors, or smaller maps.
        """
        check_is_map(X, self.name)
        if X.grid is not None and min(X.grid[:2]) < _SMALLEST:
            height, width, _ = X.grid
            raise ValueError(
                f"cnn: expected maps of at least {_SMALLEST} × {_SMALLEST}, got {height} × {width}."
                " Take a larger map."
            )

    def build(self, n_outputs: int, origin: Origin) -> Compiled:
        """Build and compile the network."""
        import keras

        from models.families.networks import layers

        with layers.training_policy():
            given = keras.Input(self.shape_, dtype="float32")
            flow = layers.standardise_layer()(given)
            for _ in range(2):
                flow = keras.layers.Conv2D(self.filters, 3, activation="relu")(flow)
                flow = keras.layers.MaxPooling2D(2)(flow)
            flow = keras.layers.Flatten()(flow)
            flow = keras.layers.Dropout(self.dropout, seed=self.seed)(flow)
            outputs = layers.add_dense(
                flow, [self.dense], n_outputs, dropout=self.dropout, seed=self.seed
            )
        return self.single_phase(given, outputs), []
