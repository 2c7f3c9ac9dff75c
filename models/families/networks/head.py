"""A dense network on the embedding."""

from __future__ import annotations

from extract.networks.registry import Origin
from models.families.networks.network_family import Compiled, NetworkFamily
from models.families.training_rows import Task


class Head(NetworkFamily):
    """ReLU layers with dropout and a linear output (health and crime can be negative).

    Features are standardised over the training rows. One network a target, trained side by side.

    Parameters
    ----------
    hidden : widths of the ReLU layers. dropout : share of their values that is dropped.
    learning_rate : of Adam. batch : rows of a step. epochs : maximum number.
    min_delta, patience : training stops after `patience` epochs in which the held-out loss, in
        squared standard deviations of the target, does not fall by `min_delta`.
    seed : of weights, batches and dropout; the same for every target.
    """

    revision = 5  # targets side by side
    name = "head"
    side_by_side = True

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        dropout: float = 0.5,
        learning_rate: float = 1e-3,
        batch: int = 32,
        epochs: int = 200,
        min_delta: float = 1e-5,
        patience: int = 3,
        seed: int = 0,
        task: Task = "number",
    ) -> None:
        self.hidden = hidden
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.batch = batch
        self.epochs = epochs
        self.min_delta = min_delta
        self.patience = patience
        self.seed = seed
        self.task = task

    def build(self, n_outputs: int, origin: Origin) -> Compiled:
        """Build and compile the network."""
        import keras

        from models.families.networks import layers, towers

        with layers.training_policy():
            given = keras.Input(self.shape_, dtype="float32")
            flow = layers.standardise_layer()(given)
            add = towers.add_towers if self.count_towers(n_outputs) > 1 else layers.add_dense
            outputs = add(flow, self.hidden, n_outputs, dropout=self.dropout, seed=self.seed)
        return self.single_phase(given, outputs), []


class JointHead(Head):
    """A head whose layers all targets share, with an output each; stops by their mean loss."""

    joint = True
    side_by_side = False
