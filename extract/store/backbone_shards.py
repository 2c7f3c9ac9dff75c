"""One backbone's shards: which there are, which are missing, and whether these settings made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from extract.errors import EmbeddingsError, ExtractionError
from extract.pictures.decode import PICTURE
from extract.settings import ExtractSettings
from extract.store.embeddings import read_attributes, read_rejects
from extract.store.shards import ShardWriter, write_virtual
from extract.tables.tile_table import Tiles

IMPORTED = "imported"  # what stands for the weights where the vectors come from elsewhere
MADE_WITH = (
    "precision",
    "runtime",
    "weights_sha256",
)  # all shards of a backbone are made with the same
_SINCE = {"runtime": "auto"}  # what older recipes lack, and meant
_OTHER_TILES = "the table had other ids or paths, or another order"
_ANEW = "start anew with --fresh (FRESH=1 for make)"


class NetworkInfo(Protocol):
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


class BackboneShards:
    """One backbone's shards.

    Attributes
    ----------
    slices : rows of the table in each shard. `shards` : their paths. `missing` : numbers of those to do: all, until `find_missing` or
        `check` found what is there.
    made : what the complete shards were made with, `precision`, `runtime` and `weights_sha256`; empty where there are none.
    is_imported : the features come from elsewhere, and nothing is to do.
    """

    def __init__(
        self, settings: ExtractSettings, tiles: Tiles, backbone: str, *, tiles_sha256: str
    ) -> None:
        self.settings = settings
        self.tiles = tiles
        self.backbone = backbone
        self.tiles_sha256 = tiles_sha256
        features = settings.folder / "features"
        extract = settings.extract
        self.folder = features / backbone
        self.virtual = features / f"{backbone}.h5"
        starts = range(0, len(tiles), extract.shard)
        self.slices = [slice(start, min(start + extract.shard, len(tiles))) for start in starts]
        self.shards = [self.folder / f"part-{i:05d}.h5" for i in range(len(starts))]
        self.missing = list(range(len(starts)))
        self.made: dict[str, str] = {}
        self.is_imported = False

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What a shard depends on: shards made with another recipe are refused."""
        extract = self.settings.extract
        return {
            "tiles": self.tiles_sha256,
            "cuts": [str(c) for c in extract.cuts_of(self.backbone)],
            "weights": Path(extract.weights_of(self.backbone)).name,
            "size": extract.size,
            "precision": extract.precision,
            "runtime": extract.runtime,
            "dtype": extract.dtype,
            "shard": extract.shard,
            "max_pixels": self.settings.tiles.max_pixels,
            **self.settings.tiles.look,
        }

    def find_missing(self) -> None:
        """Find the missing shards, changing nothing on disk: a run may be at work in the folder.

        Raises
        ------
        ExtractionError : shards made with other settings; names them. EmbeddingsError : a shard that cannot be read.
        """
        there = self._there()
        if self._are_imported(there):
            self._check_imported(there)
            return
        self.made = self._compare(there)
        if self.made:
            self._check_weights(self.made.get("weights_sha256", ""))
        complete = set(there)
        self.missing = [i for i, shard in enumerate(self.shards) if shard.name not in complete]

    def check(self, *, fresh: bool) -> None:
        """Do as `find_missing`, and remove what a killed run left; with `fresh` everything that was made here.

        Raises
        ------
        ExtractionError : made with other settings; names them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if fresh and not self._are_imported(self._there()):
            self.clear()
        self.find_missing()
        if not self.is_imported:
            self._remove([path.name for path in self.folder.glob("*.partial")])

    def retry(self, is_usable: Callable[[int], bool]) -> None:
        """Take away the shards in which a tile was rejected that is usable now, by its row, so that they are made again."""
        complete = (
            ()
            if self.is_imported
            else sorted(set(range(len(self.shards))).difference(self.missing))
        )
        mended = [
            i
            for i in complete
            if any(is_usable(self.slices[i].start + row) for row in read_rejects([self.shards[i]]))
        ]
        self._remove([self.shards[i].name for i in mended])
        self.missing = sorted([*self.missing, *mended])

    def clear(self) -> None:
        """Take away everything that was made here."""
        if not self.is_imported:
            self._remove([*self._there(), f"../{self.virtual.name}"])

    def _there(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("part-*.h5"))

    def _are_imported(self, there: list[str]) -> bool:
        """Return whether shards come from elsewhere, by the first that can be read."""
        for name in there:
            with suppress(EmbeddingsError):
                return bool(
                    read_attributes(self.folder / name, "weights").get("weights") == IMPORTED
                )
        return False

    def _check_imported(self, there: list[str]) -> None:
        """Leave what was imported as it is, also with `fresh`: no network here makes it again."""
        self.is_imported = True
        self.missing = []
        again = f"Run `python -m extract import` for {self.backbone!r} again, with --fresh."
        attributes = read_attributes(self.virtual) if self.virtual.is_file() else {}
        if there != json.loads(attributes.get("shards", "[]")):
            raise ExtractionError(f"{self.folder}: an import that is not complete. {again}")
        if attributes["tiles_sha256"] != self.tiles_sha256:
            raise ExtractionError(
                f"{self.virtual}: imported for other tiles than the table's. {again}"
            )
        known = json.loads(attributes["imported_from"])
        absent = [
            str(cut)
            for cut in self.settings.extract.cuts_of(self.backbone)
            if cut.dataset not in known
        ]
        if absent:
            raise ExtractionError(
                f"{self.virtual}: imported without the cuts {', '.join(absent)} of [extract] cuts. {again}"
            )
        self.shards = [self.folder / name for name in there]

    def _remove(self, names: list[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _compare(self, there: list[str]) -> dict[str, str]:
        """Compare every shard with these settings and with the first; gives what they are made with.

        A shard may be another's: copied from another folder, or made by another machine.
        """
        made: dict[str, str] = {}
        others: dict[str, str] = {}
        for name in there:
            attributes = read_attributes(self.folder / name, "recipe", "weights", *MADE_WITH)
            differs = self.difference(attributes) or _unlike(made, attributes)
            if differs:
                others[name] = differs
            else:
                made |= {key: str(attributes[key]) for key in MADE_WITH if key in attributes}
        if not others:
            return made
        name, differs = next(iter(others.items()))
        if len(others) == len(there):
            raise ExtractionError(
                f"{self.folder}: made with other settings: {differs}. Restore that setting, give the experiment "
                f"another name, or {_ANEW}."
            )
        raise ExtractionError(
            f"{self.folder}: {len(others)} of {len(there)} shards were made with other settings (first: {name}: "
            f"{differs}). Set them aside by `python -m extract verify --set-aside`, or {_ANEW}."
        )

    def difference(self, attributes: Mapping[str, Any]) -> str:
        """Describe in what a shard's settings differ from these; nothing where they agree."""
        if attributes.get("weights") == IMPORTED:
            return "imported"
        made = {**_SINCE, **json.loads(attributes.get("recipe", "{}"))}
        made["weights"] = Path(
            str(made.get("weights"))
        ).name  # once the whole path, which another machine need not have
        names = [key for key in self.recipe if made.get(key) != self.recipe[key]]
        return "; ".join(
            f"{key} was {made.get(key)!r}, now {self.recipe[key]!r}"
            if key != "tiles"
            else _OTHER_TILES
            for key in names
        )

    def made_in(self) -> dict[str, str | None]:
        """Return the precision and the runtime of the complete shards; None where there are none."""
        return {
            "precision": self.made.get("precision"),
            "runtime": self.made.get("runtime", "keras" if self.made else None),
        }  # schema version 1 did not say

    def check_network(self, network: NetworkInfo) -> None:
        """Refuse a network of other weights, precision or runtime than the complete shards were made with.

        Raises
        ------
        ExtractionError : it differs; says how.
        """
        self._check_weights(network.weights_sha256)
        for key, was in self.made.items():
            now = getattr(network, key)
            if was != now:
                what = "weights (SHA-256" if key == "weights_sha256" else f"{key} ("
                raise ExtractionError(
                    f"{self.folder}: made with other {what} {was}, now {now}). "
                    f"Restore the weight file or the machine, or {_ANEW}."
                )

    def _check_weights(self, found: str) -> None:
        """Refuse weights that are not those which the settings name by their hash, before a picture is embedded."""
        wanted = self.settings.extract.weights_sha256.get(self.backbone, found)
        if found != wanted:
            raise ExtractionError(
                f"{self.folder}: other weights of {self.backbone!r} than are asked for: expected SHA-256 "
                f"{wanted}, got {found} (of {self.settings.extract.weights_of(self.backbone)}; it counts all "
                "layers up to the cuts). Name the right file in [extract] weights."
            )

    def open_shard(self, index: int, network: NetworkInfo) -> ShardWriter:
        """Begin one shard."""
        attributes = {
            "settings": json.dumps(self.settings.as_json()),
            "recipe": json.dumps(self.recipe),
            "weights": network.weights,
            "weights_are_random": network.weights.startswith("random:"),
            "weights_sha256": network.weights_sha256,
            "tiles_sha256": self.tiles_sha256,
            "precision": network.precision,
            "precision_note": network.note,
            "runtime": network.runtime,
            "device": network.device,
            "created_with": network.versions,
        }
        return ShardWriter(
            self.shards[index],
            self.tiles.id.iloc[self.slices[index]],
            network.shapes,
            dtype=self.settings.extract.dtype,
            attributes=attributes,
            facts=PICTURE,
        )

    def finish(self) -> None:
        """Write the virtual file over the complete shards, unless it is there already."""
        if self.missing or not self.virtual.is_file():
            write_virtual(self.virtual, self.shards)


def _unlike(made: Mapping[str, str], attributes: Mapping[str, Any]) -> str:
    """Describe in what a shard was made otherwise than the shards before it; schema version 1 did not say all."""
    return "; ".join(
        f"{key} was {attributes[key]}, {was} in the shards before"
        for key, was in made.items()
        if attributes.get(key, was) != was
    )


def check_backbone_shards(
    settings: ExtractSettings, tiles: Tiles, *, fresh: bool = False
) -> list[BackboneShards]:
    """Return every backbone's job, checked.

    Raises
    ------
    ExtractionError : one of them was made with other settings.
    """
    tiles_sha256 = tiles.sha256  # reads every id and path: once
    jobs = [
        BackboneShards(settings, tiles, backbone, tiles_sha256=tiles_sha256)
        for backbone in settings.extract.backbones
    ]
    for job in jobs:
        job.check(fresh=fresh)
    return jobs
