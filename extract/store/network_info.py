"""What is recorded of the network that made a shard."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, Protocol

from extract.config.arrays import Pixels
from extract.errors import ExtractionError
from extract.store.schema import get_attributes, open_embeddings


class NetworkInfo(Protocol):
    """What a shard records of the network that made it."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]: ...  # noqa: D102
    @property
    def weights(self) -> str: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102
    @property
    def versions(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def runtime(self) -> str: ...  # noqa: D102
    @property
    def float32_cuts(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def note(self) -> str: ...  # noqa: D102


class StatedNetwork:
    """What earlier shards state of the network that made them, where none has to be opened."""

    def __init__(self, shard: Path) -> None:
        with open_embeddings(shard) as file:
            self.shapes = {name: tuple(data.shape[1:]) for name, data in file["cuts"].items()}
            stated = get_attributes(file)
        self.weights = stated["weights"]
        self.weights_sha256 = stated["weights_sha256"]
        self.versions = stated["created_with"]
        self.precision = stated["precision"]
        self.runtime = stated.get("runtime", "keras")
        self.device = stated["device"]
        self.float32_cuts = stated.get("float32_cuts", "")
        self.note = stated.get("precision_note", "")

    def submit(self, pictures: Pixels) -> NoReturn:
        """Raise: pictures changed after they were looked at."""
        raise ExtractionError(
            f"{len(pictures)} pictures changed while the run was at work. Run the same command "
            "again."
        )
