"""One backbone's shards: which there are, which are missing, and whether these settings made them."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from extract.embeddings import ShardWriter, read_attributes, write_virtual
from extract.pixels import PICTURE
from extract.settings import Settings
from extract.tiles import Tiles

IMPORTED = "imported"  # what stands for the weights where the vectors come from elsewhere
MADE_WITH = ("precision", "runtime", "weights_sha256")  # all shards of a backbone are made with the same
_SINCE = {"runtime": "auto"}  # what recipes of schema version 1 lack, and meant
_ANEW = "start anew with --fresh (FRESH=1 for make)"


class ExtractError(RuntimeError):
    """The extraction cannot start or go on; what is complete is kept, and the text says what to do."""


class Opened(Protocol):
    """What a shard tells of the network that made it."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]: ...  # noqa: D102
    @property
    def weights(self) -> str: ...  # noqa: D102
    @property
    def weights_sha256(self) -> str: ...  # noqa: D102
    @property
    def versions(self) -> str: ...  # noqa: D102
    precision: str
    runtime: str
    device: str
    note: str


class Job:
    """One backbone's shards.

    Attributes
    ----------
    slices : rows of the table in each shard. `shards` : their paths. `missing` : numbers of those to do, after `check`.
    made : what the complete shards were made with, `precision`, `runtime` and `weights_sha256`; empty where there are none.
    is_imported : the features come from elsewhere, and nothing is to do.
    """

    def __init__(self, settings: Settings, tiles: Tiles, backbone: str, *, tiles_sha256: str) -> None:
        self.settings, self.tiles, self.backbone, self.tiles_sha256 = settings, tiles, backbone, tiles_sha256
        features, extract = settings.folder / "features", settings.extract
        self.folder, self.virtual = features / backbone, features / f"{backbone}.h5"
        starts = range(0, len(tiles), extract.shard)
        self.slices = [slice(start, min(start + extract.shard, len(tiles))) for start in starts]
        self.shards = [self.folder / f"part-{i:05d}.h5" for i in range(len(starts))]
        self.missing: list[int] = []
        self.made: dict[str, str] = {}
        self.is_imported = False

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What a shard depends on: shards made with another recipe are refused."""
        extract = self.settings.extract
        return {
            "tiles": self.tiles_sha256, "cuts": [str(c) for c in extract.cuts_of(self.backbone)],
            "weights": extract.weights_of(self.backbone), "size": extract.size, "precision": extract.precision,
            "runtime": extract.runtime, "dtype": extract.dtype, "shard": extract.shard,
            "max_pixels": self.settings.tiles.max_pixels,
            **self.settings.tiles.look,
        }

    def check(self, *, fresh: bool) -> None:
        """Find the missing shards; refuse what other settings made, or with `fresh` remove it.

        Raises
        ------
        ExtractError : made with other settings; names them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in self.folder.iterdir()}
        there = sorted(name for name in names if name.startswith("part-") and name.endswith(".h5"))
        if there and read_attributes(self.folder / there[0])["weights"] == IMPORTED:
            self._check_imported(there)
            return
        differs = None if fresh or not there else self._difference(self.folder / there[0])
        if differs:
            raise ExtractError(f"{self.folder}: made with other settings: {differs}. Restore that setting, give the experiment "
                               f"another name, or {_ANEW}.")
        if fresh:
            self._remove([*there, f"../{self.virtual.name}"])
            there = []
        if there:
            attributes = read_attributes(self.folder / there[0])
            self.made = {key: attributes[key] for key in MADE_WITH if key in attributes}
        self._remove([name for name in names if name.endswith(".partial")])
        complete = set(there)
        self.missing = [i for i, shard in enumerate(self.shards) if shard.name not in complete]

    def _check_imported(self, there: list[str]) -> None:
        """Leave what was imported as it is, also with `fresh`: no network here makes it again."""
        again = f"Run `python -m extract import` for {self.backbone!r} again, with --fresh."
        attributes = read_attributes(self.virtual) if self.virtual.is_file() else {}
        if there != json.loads(attributes.get("shards", "[]")):
            raise ExtractError(f"{self.folder}: an import that is not complete. {again}")
        if attributes["tiles_sha256"] != self.tiles_sha256:
            raise ExtractError(f"{self.virtual}: imported for other tiles than the table's. {again}")
        self.shards, self.missing, self.is_imported = [self.folder / name for name in there], [], True

    def _remove(self, names: list[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _difference(self, shard: Path) -> str | None:
        made = json.loads(read_attributes(shard).get("recipe", "{}"))
        made = {**_SINCE, **made}
        names = [key for key in self.recipe if made.get(key) != self.recipe[key]]
        return "; ".join(f"{key} was {made.get(key)!r}, now {self.recipe[key]!r}" for key in names) or None

    def check_network(self, network: Opened) -> None:
        """Refuse a network of other weights, precision or runtime than the complete shards were made with.

        Raises
        ------
        ExtractError : it differs; says how.
        """
        for key, was in self.made.items():
            now = getattr(network, key)
            if was != now:
                what = "weights (SHA-256" if key == "weights_sha256" else f"{key} ("
                raise ExtractError(f"{self.folder}: made with other {what} {was}, now {now}). "
                                   f"Restore the weight file or the machine, or {_ANEW}.")

    def open_shard(self, index: int, network: Opened) -> ShardWriter:
        """Begin one shard."""
        attributes = {
            "settings": json.dumps(self.settings.as_json()), "recipe": json.dumps(self.recipe), "weights": network.weights,
            "weights_are_random": network.weights.startswith("random:"), "weights_sha256": network.weights_sha256,
            "tiles_sha256": self.tiles_sha256, "precision": network.precision, "precision_note": network.note,
            "runtime": network.runtime, "device": network.device, "created_with": network.versions,
        }
        return ShardWriter(self.shards[index], self.tiles.id.iloc[self.slices[index]], network.shapes,
                           dtype=self.settings.extract.dtype, attributes=attributes, facts=PICTURE)

    def finish(self) -> None:
        """Write the virtual file over the complete shards, unless it is there already."""
        if self.missing or not self.virtual.is_file():
            write_virtual(self.virtual, self.shards)


def check_jobs(settings: Settings, tiles: Tiles, *, fresh: bool = False) -> list[Job]:
    """Give every backbone's job, checked.

    Raises
    ------
    ExtractError : one of them was made with other settings.
    """
    tiles_sha256 = tiles.sha256  # reads every id and path: once
    jobs = [Job(settings, tiles, backbone, tiles_sha256=tiles_sha256) for backbone in settings.extract.backbones]
    for job in jobs:
        job.check(fresh=fresh)
    return jobs
