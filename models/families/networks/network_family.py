"""What all families of networks share: one network a target, trained, asked, written and read."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.special import softmax

from extract.config.arrays import Floats
from extract.networks.registry import Origin
from models.data.features import Features
from models.families.family import Family, FitContext
from models.families.fit_results import Chosen, Epoch
from models.families.networks.checkpoints import (
    Arrays,
    Phase,
    TrainedNetwork,
    TrainingState,
    checkpoint_path,
    read_networks,
    write_networks,
)
from models.families.training_rows import TrainingRows, labelled_groups

NO_ORIGIN = Origin(backbone="", layer="", size=0)  # of features that no network can go on from
_FORWARD_ROWS = 1024
_FORWARD_BYTES = 4 << 20


Compiled = tuple[list[Phase], Arrays]  # phases of the training, and pretrained weights


class NetworkFamily(Family):
    """A network for each target, or with `joint` one for all; one for all classes of a target.

    With `side_by_side` the networks of targets that have labels in the same rows are trained
    together, as towers of one model.

    Training stops by the loss on the first inner fold that has labels of most targets, and the
    weights with the lowest loss are kept. There is no second training on all rows, so that no
    network learns from the fold that stops it. Numbers are standardised, come out of a linear
    output and are given back in their unit; classes are the softmax of their outputs. Rows are
    read in batches: they never have to be in memory together.

    Attributes
    ----------
    shape_ : of an input: (n_features,), or height, width and channels of a map.
    origin_ : network that stood before the features, or `NO_ORIGIN`.
    """

    revision = 4
    name = "network"  # of the files
    seed: int
    min_delta: float = 0.0
    joint: bool = False
    side_by_side: bool = False
    compiled_: dict[tuple[Any, ...], Compiled]

    batch: int
    epochs: int
    patience: int
    learning_rate: float

    @abstractmethod
    def build(self, n_outputs: int, origin: Origin) -> Compiled:
        """Build and compile the network for `shape_`.

        Parameters
        ----------
        origin : pretrained network to go on with, or `NO_ORIGIN`.

        Returns
        -------
        Phases of the training, and the pretrained weights, which come first in the model. None
        are pretrained where the first layer standardises.
        """

    def single_phase(self, inputs: Any, outputs: Any) -> list[Phase]:
        """Compile a network to be trained in one phase."""
        import keras

        from models.families.networks.compiling import compile_model

        model = keras.Model(inputs, outputs)
        compile_model(model, self.learning_rate, self.task, self.count_towers(outputs.shape[-1]))
        return [Phase(model, self.epochs, self.patience)]

    def check(self, X: Features) -> None:
        """Check that the family can be fed with these features; raises ValueError."""

    def fit_rows(self, data: TrainingRows, context: FitContext) -> None:
        """Train the networks; a missing label counts nothing for its target alone.

        Raises
        ------
        ValueError : features that the family cannot be fed with.
        DivergedError : a loss is not finite.
        """
        from models.families.networks import layers

        X = data.X
        Y = data.Y
        self.check(X)
        self.shape_: tuple[int, ...] = X.grid or (X.shape[1],)
        self.origin_ = X.origin or NO_ORIGIN
        groups = self._group_columns(Y)
        self.y_mean_ = np.nanmean(Y, axis=0)
        self.y_scale_ = np.nanstd(Y, axis=0)
        if self.task == "number":
            scale = np.where(self.y_scale_ > 1e-12, self.y_scale_, 1.0)
            data = data._replace(Y=(Y - self.y_mean_) / scale)
        n_targets = 1 if self.task == "class" else Y.shape[1]
        scales: Arrays = []
        self.networks_: list[TrainedNetwork] = []
        self.chosen_: list[Chosen] = [{} for _ in range(n_targets)]
        self.curves_: list[list[Epoch]] = [[] for _ in range(n_targets)]
        for columns in groups:
            phases, pretrained = self._compiled(len(columns))
            if not pretrained and not scales:
                scales = layers.measure_scales(X)
            n_towers = self.count_towers(len(columns))
            layers.draw_start(phases[-1].model, pretrained or scales, self.seed, n_towers)
            state = self._train(phases, data, columns, context)
            self.networks_.append(TrainedNetwork(columns, state.best_weights))
            for number, column in enumerate(columns[:n_targets]):
                tower = min(number, n_towers - 1)
                self.chosen_[column] = {"epochs": state.best_epoch[tower]}
                self.curves_[column] = state.list_epochs(tower)

    def _train(
        self, phases: list[Phase], data: TrainingRows, columns: list[int], context: FitContext
    ) -> TrainingState:
        """Train the network of some columns of the labels, which are standardised."""
        from models.families.networks.training import Batches, split_rows, train

        X = data.X
        labels = data.Y[:, columns]
        training_rows, held_rows = split_rows(data.folds, np.isfinite(labels))
        batches = Batches(
            X, training_rows, self.batch, labels=labels, weight=data.weight, seed=self.seed
        )
        held = Batches(X, held_rows, self._forward_batch(X), labels=labels, weight=data.weight)
        towers = columns[: self.count_towers(len(columns))]
        return train(
            phases,
            batches,
            held,
            min_delta=self.min_delta,
            names=[context.describe(column) for column in towers],
            path=checkpoint_path(context, columns),
        )

    def _group_columns(self, Y: Floats) -> list[list[int]]:
        """Return the columns of each network; raises ValueError for a target without a label."""
        groups: list[list[int]] = [columns.tolist() for _, columns in labelled_groups(Y)]
        if self.side_by_side and self.task == "number":
            return groups
        columns = sorted(chain.from_iterable(groups))
        if self.joint or self.task == "class":
            return [columns]
        return [[column] for column in columns]

    def count_towers(self, n_outputs: int) -> int:
        """Return how many networks a model of so many outputs is."""
        return n_outputs if self.side_by_side and self.task == "number" else 1

    def _forward_batch(self, X: Features) -> int:
        """Return the rows of a batch that is predicted, or that a training is stopped by."""
        by_memory = _FORWARD_BYTES // (4 * X.shape[1])
        return max(self.batch, min(_FORWARD_ROWS, by_memory))

    def predict(self, X: Features) -> Floats:
        """Predict every target, or the probability of every class: (n_rows, n_targets)."""
        from models.families.networks.training import Batches

        batches = Batches(X, np.arange(len(X)), self._forward_batch(X))
        outputs = np.zeros((len(X), len(self.y_mean_)))
        for trained in self.networks_:
            network = self._load_network(trained)
            outputs[:, trained.columns] = network.predict(batches, verbose=0)
        if self.task == "number":
            return outputs * self.y_scale_ + self.y_mean_
        is_trained = self.y_mean_ > 0  # a class that no training row has gets 0
        scores = np.where(is_trained, outputs, -np.inf)
        shares: Floats = softmax(scores, axis=1)
        return shares

    def fresh(self) -> Self:
        """Return an unfitted one with the same parameters, that shares the compiled network."""
        fresh = super().fresh()
        fresh.compiled_ = self._share_compiled()
        return fresh

    def _share_compiled(self) -> dict[tuple[Any, ...], Compiled]:
        """Return the networks that were built, to be shared by the models of all folds."""
        if not hasattr(self, "compiled_"):
            self.compiled_ = {}
        return self.compiled_

    def _compiled(self, n_outputs: int) -> Compiled:
        """Build the network, or take the one that another fold built: to compile takes long."""
        form = (self.shape_, self.origin_, str(self.get_params()))
        shared = self._share_compiled()
        if any(key[1:] != form for key in shared):
            shared.clear()
        key = (n_outputs, *form)
        if key not in shared:
            shared[key] = self.build(n_outputs, self.origin_)
        return shared[key]

    def _load_network(self, trained: TrainedNetwork) -> Any:
        phases, _ = self._compiled(len(trained.columns))
        model = phases[-1].model
        model.set_weights(trained.weights)
        return model

    def network(self, column: int = 0) -> Any:
        """Return a Keras model from inputs as they are stored to one target in its unit, or class.

        Returns
        -------
        (n, …) float32 → (n, 1). What goes on with a pretrained network has its layer `body`, whose
        output is the last convolutional map; the last layer, `unit`, gives the unit back.
        """
        import keras

        trained = next(one for one in self.networks_ if column in one.columns)
        shared = self._load_network(trained)
        uncompiled = keras.Model(shared.inputs, shared.outputs)
        model = keras.models.clone_model(uncompiled)
        model.set_weights(trained.weights)
        (flow,) = model.outputs
        kernel = np.zeros((len(trained.columns), 1))
        place = trained.columns.index(column)
        kernel[place] = 1.0
        offset = 0.0
        if self.task == "class":
            flow = keras.layers.Softmax()(flow)
        else:
            kernel *= self.y_scale_[column]
            offset = self.y_mean_[column]
        unit = keras.layers.Dense(1, dtype="float32", name="unit")
        flow = unit(flow)
        unit.set_weights([kernel, np.array([offset])])
        return keras.Model(model.inputs, flow)

    def save(self, folder: Path) -> None:
        """Write weights and scales as plain arrays, and the parameters as JSON."""
        write_networks(folder / f"{self.name}.npz", self.networks_)
        origin = replace(self.origin_, weights="", cuts=(), sha256="")
        text = {
            "params": self.get_params(),
            "chosen": self.chosen_,
            "shape": self.shape_,
            "y_mean": self.y_mean_.tolist(),
            "y_scale": self.y_scale_.tolist(),
            "columns": [trained.columns for trained in self.networks_],
            "origin": asdict(origin),
        }
        path = folder / f"{self.name}.json"
        path.write_text(json.dumps(text))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the file of pretrained weights is not needed."""
        path = folder / f"{cls.name}.json"
        text = json.loads(path.read_text())
        params = text["params"]
        for name, value in params.items():
            if isinstance(value, list):
                params[name] = tuple(value)
        model = cls(**params)
        model.chosen_ = text["chosen"]
        model.shape_ = tuple(text["shape"])
        model.y_mean_ = np.array(text["y_mean"])
        model.y_scale_ = np.array(text["y_scale"])
        model.origin_ = Origin(**{**text["origin"], "cuts": ()})
        model.networks_ = read_networks(folder / f"{cls.name}.npz", text["columns"])
        return model


def check_is_map(X: Features, name: str) -> None:
    """Check that rows are maps; raises ValueError."""
    if X.grid is None:
        raise ValueError(
            f"{name}: expected a cut of pooling 'map', as 'pixels/100:map', whose rows have "
            "height, width and channels; got vectors. Add such a cut to [extract], or remove "
            f"{name!r} from names."
        )
