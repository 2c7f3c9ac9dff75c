"""The embeddings of an experiment from Python: `extract.open_embeddings`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.config.arrays import Array, Bools
from extract.config.cuts import parse_cut
from extract.config.suggestions import suggest
from extract.errors import EmbeddingsError, UnknownCutError
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings


def find_experiment(experiment: str | Path) -> Path:
    """Return the folder of an experiment, from itself or from its settings file.

    Raises
    ------
    SettingsError : a settings file that cannot be used.
    EmbeddingsError : no such folder.
    """
    path = Path(experiment).expanduser()
    if path.suffix == ".toml":
        return read_settings(path, ExtractSettings).folder
    if not path.is_dir():
        raise EmbeddingsError(
            f"{path}: no such folder. Name the folder of an experiment, as 'artifacts/town', or "
            "its settings file."
        )
    return path


class CutEmbeddings:
    """The embeddings of one cut, read when they are asked for.

    Attributes
    ----------
    cut : its name, `<backbone>/<layer>:<pooling>`.
    path : the file that holds it.
    """

    def __init__(self, path: Path, cut: str) -> None:
        self.path = path
        self.cut = cut
        self._dataset = parse_cut(cut).dataset

    @property
    def ids(self) -> Array:
        """Id of each tile: (n_tiles,), int64 or text, in the order of the tile table."""
        with Embeddings(self.path) as reader:
            return reader.ids

    @property
    def is_ok(self) -> Bools:
        """Whether each tile was accepted: (n_tiles,)."""
        with Embeddings(self.path) as reader:
            return reader.is_ok

    @property
    def array(self) -> NDArray[np.float16 | np.float32]:
        """The embeddings as stored: (n_tiles, n_features), or (n_tiles, height, width, channels)
        of a map; rows of rejected tiles are NaN.
        """
        with Embeddings(self.path) as reader:
            return reader.read(self._dataset)

    @property
    def frame(self) -> pd.DataFrame:
        """The accepted tiles, a row a tile with its id as index, and a column a feature."""
        with Embeddings(self.path) as reader:
            rows = reader.read(self._dataset)
            index = pd.Index(reader.ids, name="id")
            is_ok = reader.is_ok
        vectors = rows.reshape(len(rows), -1)
        return pd.DataFrame(vectors[is_ok], index=index[is_ok])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> Array:
        """Return `array`, so that numpy takes the embeddings themselves."""
        del copy  # what is read from a file is always new
        return self.array if dtype is None else self.array.astype(dtype)

    def __len__(self) -> int:
        """Return the number of tiles."""
        with Embeddings(self.path) as reader:
            return len(reader)

    def __repr__(self) -> str:
        """Return cut, number of tiles and shape of a row."""
        with Embeddings(self.path) as reader:
            shape = " × ".join(map(str, reader.shape(self._dataset)))
            return f"<{self.cut}: {len(reader)} tiles of {shape}>"


class ExperimentEmbeddings(Mapping[str, CutEmbeddings]):
    """Every cut of an experiment by its name.

    Attributes
    ----------
    folder : of the experiment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, Path] = {}
        for path in sorted((folder / "features").glob("*.h5")):
            with Embeddings(path) as reader:
                names = [f"{reader.backbone}/{dataset}" for dataset in reader.cuts]
            self._paths.update(dict.fromkeys(names, path))
        if not self._paths:
            raise EmbeddingsError(
                f"{folder / 'features'}: no embeddings. Run `roofline features` first."
            )

    def __getitem__(self, cut: str) -> CutEmbeddings:
        """Return a cut.

        Raises
        ------
        EmbeddingsError : not among those that were made; it is a KeyError too.
        """
        if cut not in self._paths:
            raise UnknownCutError(
                f"cut {cut!r}: not in {self.folder}; it has {', '.join(self._paths)}."
                f"{suggest(cut, self._paths)}"
            )
        return CutEmbeddings(self._paths[cut], cut)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the cuts."""
        return iter(self._paths)

    def __len__(self) -> int:
        """Return the number of cuts."""
        return len(self._paths)

    def __repr__(self) -> str:
        """Return the folder and the cuts."""
        return f"<embeddings of {self.folder}: {', '.join(self._paths)}>"


def open_embeddings(experiment: str | Path) -> ExperimentEmbeddings:
    """Open the embeddings of an experiment.

    Parameters
    ----------
    experiment : its folder, as `artifacts/town`, or its settings file.

    Returns
    -------
    A mapping from `<backbone>/<layer>:<pooling>` to the embeddings of that cut.

    Raises
    ------
    EmbeddingsError : there are none, or a file is damaged.

    Examples
    --------
    >>> cut = extract.open_embeddings("artifacts/town")["vgg16/block5_pool:avg"]  # doctest: +SKIP
    >>> cut.array.shape  # doctest: +SKIP
    (36723, 512)
    """
    return ExperimentEmbeddings(find_experiment(experiment))
