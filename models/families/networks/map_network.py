"""What the networks share that are fed with maps or pictures: a network a target, trained, asked, written and read."""

from __future__ import annotations

import json
from abc import abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from extract.networks.registry import Origin
from models.data.arrays import Floats, Ints
from models.data.features import Features
from models.data.folds import Folds
from models.families.family import Chosen, Family, labelled_groups
from models.families.networks.checkpoints import open_keeper
from models.families.networks.learning import (
    Lesson,
    Phase,
    State,
    Weights,
    learn,
    run_network,
    write_weights,
)
from models.families.networks.training import class_shares, inner_split, label_outputs, spread_of

Grid = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A network to be trained.

    Attributes
    ----------
    phases : how; their models share all weights.
    start : the pretrained weights, which come first in the model's; the others are drawn.
    """

    phases: list[Phase]
    start: Weights

    @property
    def model(self) -> Any:
        """The network: maps → (n, n_towers, n_outputs)."""
        return self.phases[-1].model

    def reset(self, seed: int) -> None:
        """Return the pretrained weights back, and draw the others anew (Glorot and Bengio 2010)."""
        rng = np.random.default_rng(seed)
        drawn = [
            draw_weights(tuple(variable.shape), rng)
            for variable in self.model.weights[len(self.start) :]
        ]
        write_weights(self.model.weights, [*self.start, *drawn])


class Network(NamedTuple):
    """A trained network: the columns of Y that it predicts, in the order of its towers, and its weights."""

    columns: list[int]
    weights: Weights


class MapNetwork(Family):
    """A network for each target, or with `joint` one for all, and one for all classes of a target.

    Training stops by the loss on the first inner fold (that has labels of most targets), and the best weights are kept; there
    is no second training on all rows, so that no network learns from the fold that it was stopped on. Numbers are
    standardised, come out of a linear output, and are given back in their unit. Maps are read in batches: they never have
    to be in memory.
    """

    batch: int
    seed: int
    revision = 2  # targets without labels in the first inner fold stop on another
    joint: bool = False
    min_delta: float = 0.0
    name = "network"  # of the files

    @abstractmethod
    def build(self, n_towers: int, n_outputs: int) -> Program:
        """Return the network for `grid_` and `origin_`, maybe one built before."""

    def check(self, X: Features) -> None:
        """Refuse features that the family cannot be fed with."""
        if X.grid is None:
            raise ValueError(
                f"{self.name}: expected a cut of pooling 'map', as 'pixels/100:map', whose rows have height, width "
                f"and channels; got vectors. Add such a cut to [extract], or remove {self.name!r} from names."
            )

    def prepare(self, X: Features) -> None:
        """Measure what the training rows tell, before anything is built."""

    def read(self, X: Features, rows: Ints, rng: np.random.Generator | None) -> NDArray[np.float32]:  # noqa: ARG002
        """Return maps, (n, height, width, channels); to learn from, if there is a generator, and then maybe augmented."""
        return X.rows(rows).array().reshape(-1, *self.grid_)

    def fit(self, X: Features, Y: Floats, *, folds: Folds, weight: Floats) -> Self:
        """Train the networks.

        Raises
        ------
        ValueError : rows that are no maps, or a network that cannot go on from them. DivergedError : a loss is no number.
        """
        self.check(X)
        self.grid_ = _grid(X)
        self.origin_ = X.origin
        self.prepare(X)
        self.y_mean_ = np.nanmean(Y, axis=0)
        self.y_scale_ = np.nanstd(Y, axis=0)
        self.networks_: list[Network] = []
        states: dict[int, tuple[State, int]] = {}
        for columns in self._groups(Y):
            state = self._train(X, Y, columns, folds=folds, weight=weight)
            self.networks_.append(Network(columns, state.best))
            states |= {column: (state, tower) for tower, column in enumerate(columns)}
        n_shown = 1 if self.task == "class" else Y.shape[1]
        self.chosen_: list[Chosen] = [{"epochs": states[t][0].best_epoch} for t in range(n_shown)]
        self.curves_ = [
            state.curves()[tower] for state, tower in (states[t] for t in range(n_shown))
        ]
        return self

    def _groups(self, Y: Floats) -> list[list[int]]:
        """Columns that a network predicts."""
        for _ in labelled_groups(Y):
            pass
        columns = list(range(Y.shape[1]))
        return [columns] if self.joint or self.task == "class" else [[column] for column in columns]

    def _train(
        self, X: Features, Y: Floats, columns: list[int], *, folds: Folds, weight: Floats
    ) -> State:
        rows = np.flatnonzero(np.isfinite(Y[:, columns]).any(axis=1))
        mine = X.rows(rows)
        inner = folds.take(rows)
        scaled = Y if self.task == "class" else (Y - self.y_mean_) / spread_of(self.y_scale_)
        labels = label_outputs(scaled[rows][:, columns], weight[rows], self.task)
        train, held, _ = inner_split(inner, labels[..., -1] > 0)
        program = self.build(*self._size(columns))
        program.reset(self.seed)
        lesson = Lesson(
            read=lambda places, rng: self.read(mine, places, rng),
            train=train,
            held=held,
            batch=self.batch,
            labels=labels,
            task=self.task,
            seed=self.seed,
            min_delta=self.min_delta,
        )
        return learn(
            program.phases, lesson, open_keeper(self.where, columns[0]), self.where.name(columns[0])
        )

    def _size(self, columns: list[int]) -> tuple[int, int]:
        return (1, len(columns)) if self.task == "class" else (len(columns), 1)

    def load_network(self, column: int) -> tuple[Any, Network]:
        """Return the network that predicts a column, with its weights."""
        one = next(one for one in self.networks_ if column in one.columns)
        program = self.build(*self._size(one.columns))
        write_weights(program.model.weights, one.weights)
        return program.model, one

    def predict(self, X: Features) -> Floats:
        """Run the networks: (n_rows, n_targets)."""
        predicted = np.zeros((len(X), len(self.y_mean_)))
        for one in self.networks_:
            model, _ = self.load_network(one.columns[0])
            outputs = run_network(
                model, lambda rows, rng: self.read(X, rows, rng), np.arange(len(X))
            ).astype(np.float64)
            predicted[:, one.columns] = outputs[:, 0] if self.task == "class" else outputs[..., 0]
        return (
            class_shares(predicted, self.y_mean_)
            if self.task == "class"
            else predicted * self.y_scale_ + self.y_mean_
        )

    def network(self, column: int = 0) -> Any:
        """Return a Keras model of its own from maps, as they are stored, to a target in its unit, or a class's probability.

        Returns
        -------
        (n, height, width, channels) float32 → (n, 1). What goes on with a pretrained network has its layer `body`, whose
        output is the last convolutional map; all layers after it are its own.
        """
        import keras

        model, one = self.load_network(column)
        own = keras.models.clone_model(
            keras.Model(model.inputs, model.outputs[0])
        )  # not compiled: its loss is no name in Keras
        own.set_weights(model.get_weights())
        tower = one.columns.index(column)
        if self.task == "class":
            flow: Any = keras.layers.Softmax()(own.outputs[0][:, 0])[:, tower : tower + 1]
        else:
            flow = keras.layers.Rescaling(
                float(self.y_scale_[column]), float(self.y_mean_[column])
            )(own.outputs[0][:, tower])
        return keras.Model(own.inputs, flow)

    def save(self, folder: Path) -> None:
        """Write weights and scales as plain arrays, and the parameters as JSON."""
        arrays = {
            f"weight_{n}_{i}": w
            for n, one in enumerate(self.networks_)
            for i, w in enumerate(one.weights)
        }
        np.savez(
            folder / f"{self.name}.npz",
            allow_pickle=False,
            y_mean=self.y_mean_,
            y_scale=self.y_scale_,
            **self.scales(),
            **arrays,
        )
        text = {
            "params": self.get_params(),
            "chosen": self.chosen_,
            "grid": self.grid_,
            "columns": [one.columns for one in self.networks_],
            "origin": self.origin_
            and {**asdict(self.origin_), "weights": "", "cuts": (), "sha256": ""},
        }
        (folder / f"{self.name}.json").write_text(json.dumps(text))

    def scales(self) -> dict[str, Floats]:
        """Return the arrays to write besides the weights; `load` sets them as attributes, with `_` after the name."""
        return {}

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; the pretrained weights' own file is not needed."""
        text = json.loads((folder / f"{cls.name}.json").read_text())
        model = cls(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in text["params"].items()}
        )
        origin = text["origin"]
        model.chosen_ = text["chosen"]
        model.grid_ = tuple(text["grid"])
        model.origin_ = origin and Origin(**{**origin, "cuts": ()})
        with np.load(folder / f"{cls.name}.npz", allow_pickle=False) as arrays:
            for key in arrays:
                if not key.startswith("weight_"):
                    setattr(model, f"{key}_", arrays[key])
            counts = [
                sum(key.startswith(f"weight_{n}_") for key in arrays)
                for n in range(len(text["columns"]))
            ]
            model.networks_ = [
                Network(columns, [arrays[f"weight_{n}_{i}"] for i in range(counts[n])])
                for n, columns in enumerate(text["columns"])
            ]
        return model


def _grid(X: Features) -> Grid:
    if X.grid is None:
        raise ValueError("expected maps, got vectors")
    return X.grid


def draw_weights(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a kernel (Glorot and Bengio 2010); a bias is 0."""
    area = int(np.prod(shape[:-2]))
    limit = np.sqrt(6 / (area * (shape[-2] + shape[-1]))) if len(shape) > 1 else 0.0
    return rng.uniform(-limit, limit, shape).astype(np.float32)
