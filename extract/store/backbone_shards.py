"""The shards of one backbone: which exist, are missing, or were made with other settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from extract.errors import EmbeddingsError, ExtractionError
from extract.pictures.decode import PICTURE
from extract.settings import ExtractSettings
from extract.store.embeddings import ShardAttributes, read_attributes, read_rejects
from extract.store.shards import ShardWriter, write_virtual
from extract.tables.tile_table import Tiles

IMPORTED = "imported"  # in place of the weights where the vectors come from elsewhere
MADE_WITH = ("precision", "runtime", "weights_sha256")  # the same in all shards of a backbone
_START_ANEW = "start anew with --fresh (FRESH=1 for make)"


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
    def device(self) -> str: ...  # noqa: D102
    @property
    def note(self) -> str: ...  # noqa: D102


class BackboneShards:
    """The shards of one backbone.

    Attributes
    ----------
    slices : rows of the table in each shard.
    shards : paths of the shards.
    missing : numbers of the shards to make: all, until `find_missing` or `check` was called.
    made : what the complete shards were made with, by the names in `MADE_WITH`; empty where there
        are none.
    is_imported : whether the features come from elsewhere, so that there is nothing to make.
    """

    def __init__(
        self, settings: ExtractSettings, tiles: Tiles, backbone: str, *, tiles_sha256: str
    ) -> None:
        self.settings = settings
        self.tiles = tiles
        self.backbone = backbone
        self.tiles_sha256 = tiles_sha256
        features = settings.folder / "features"
        size = settings.extract.shard
        self.folder = features / backbone
        self.virtual = features / f"{backbone}.h5"
        starts = range(0, len(tiles), size)
        self.slices = [slice(start, min(start + size, len(tiles))) for start in starts]
        self.shards = [self.folder / f"part-{i:05d}.h5" for i in range(len(starts))]
        self.missing = list(range(len(starts)))
        self.made: dict[str, str] = {}
        self.is_imported = False

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What the data of a shard depend on, as JSON: shards of another recipe are refused."""
        extract = self.settings.extract
        same = extract.model_dump(mode="json", include={"size", "precision", "runtime", "dtype"})
        return {
            "tiles": self.tiles_sha256,
            "cuts": [str(cut) for cut in extract.cuts_of(self.backbone)],
            "weights": Path(extract.weights_of(self.backbone)).name,
            **same,
            "shard": extract.shard,
            "max_pixels": self.settings.tiles.max_pixels,
            **self.settings.tiles.look,
        }

    def find_missing(self) -> None:
        """Find the missing shards, changing nothing on disk: a run may be at work in the folder.

        Raises
        ------
        ExtractionError : shards made with other settings; names them.
        EmbeddingsError : a shard that cannot be read.
        """
        existing = self.list_existing()
        if self.are_imported(existing):
            self._check_imported(existing)
            return
        self.made = self._compare(existing)
        if self.made:
            self._check_weights(self.made.get("weights_sha256", ""))
        complete = set(existing)
        self.missing = [i for i, shard in enumerate(self.shards) if shard not in complete]

    def check(self, *, fresh: bool) -> None:
        """Find the missing shards, and remove partial ones; with `fresh` all that was made here.

        Raises
        ------
        ExtractionError : shards made with other settings; names them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if fresh and not self.are_imported(self.list_existing()):
            self.clear()
        self.find_missing()
        if not self.is_imported:
            _remove(self.folder.glob("*.partial"))

    def retry(self, is_usable: Callable[[int], bool]) -> None:
        """Remove the shards with a rejected tile that is usable now, so that they are made again.

        Parameters
        ----------
        is_usable : whether the tile of a row of the table can be used.
        """
        if self.is_imported:
            return
        for i in sorted(set(range(len(self.shards))) - set(self.missing)):
            rejected = read_rejects([self.shards[i]])
            if any(is_usable(self.slices[i].start + row) for row in rejected):
                _remove([self.shards[i]])
                self.missing.append(i)
        self.missing.sort()

    def clear(self) -> None:
        """Remove everything that was made here."""
        if not self.is_imported:
            partial = self.folder.glob("*.partial")
            _remove([*self.list_existing(), *partial, self.virtual])

    def list_existing(self) -> list[Path]:
        """Return the complete shards in the folder, whoever made them."""
        return sorted(self.folder.glob("part-*.h5"))

    def are_imported(self, existing: list[Path]) -> bool:
        """Return whether shards come from elsewhere, by the first that can be read."""
        for shard in existing:
            with suppress(EmbeddingsError):
                return read_attributes(shard).get("weights") == IMPORTED
        return False

    def _check_imported(self, existing: list[Path]) -> None:
        """Check that an import is complete; it is kept with `fresh`: no network makes it again."""
        self.is_imported = True
        self.missing = []
        again = f"Run `python -m extract import` for {self.backbone!r} again, with --fresh."
        is_there = self.virtual.is_file()
        attributes = read_attributes(self.virtual) if is_there else ShardAttributes()
        if [shard.name for shard in existing] != json.loads(attributes.get("shards", "[]")):
            raise ExtractionError(f"{self.folder}: an import that is not complete. {again}")
        if attributes["tiles_sha256"] != self.tiles_sha256:
            raise ExtractionError(
                f"{self.virtual}: imported for other tiles than the table's. {again}"
            )
        known = json.loads(attributes["imported_from"])
        cuts = self.settings.extract.cuts_of(self.backbone)
        absent = [str(cut) for cut in cuts if cut.dataset not in known]
        if absent:
            raise ExtractionError(
                f"{self.virtual}: imported without the cuts {', '.join(absent)} of [extract] cuts. "
                f"{again}"
            )
        self.shards = existing

    def _compare(self, existing: list[Path]) -> dict[str, str]:
        """Compare every shard with these settings and with the first; return what made them.

        A shard may be another's: copied from another folder, or made by another machine.
        """
        made: dict[str, str] = {}
        others: dict[str, str] = {}
        for shard in existing:
            attributes = read_attributes(shard)
            stated: Mapping[str, Any] = {**attributes}
            differs = self.difference(attributes) or _compare_makers(made, stated)
            if differs:
                others[shard.name] = differs
            else:
                made |= {key: str(stated[key]) for key in MADE_WITH if key in stated}
        if not others:
            return made
        name, differs = next(iter(others.items()))
        if len(others) == len(existing):
            raise ExtractionError(
                f"{self.folder}: made with other settings: {differs}. Restore that setting, give "
                f"the experiment another name, or {_START_ANEW}."
            )
        raise ExtractionError(
            f"{self.folder}: {len(others)} of {len(existing)} shards were made with other settings "
            f"(first: {name}: {differs}). Set them aside by `python -m extract verify "
            f"--set-aside`, or {_START_ANEW}."
        )

    def difference(self, attributes: ShardAttributes) -> str:
        """Describe in what a shard's settings differ from these; empty where they agree."""
        if attributes.get("weights") == IMPORTED:
            return "imported"
        made = {"runtime": "auto", **json.loads(attributes.get("recipe", "{}"))}
        # once the whole path, which another machine need not have
        made["weights"] = Path(str(made.get("weights"))).name
        differs = {
            key: f"{key} was {made.get(key)!r}, now {value!r}"
            for key, value in self.recipe.items()
            if made.get(key) != value
        }
        if "tiles" in differs:
            differs["tiles"] = "the table had other ids or paths, or another order"
        return "; ".join(differs.values())

    def made_in(self) -> dict[str, str | None]:
        """Return precision and runtime of the complete shards; None where there are none."""
        return {
            "precision": self.made.get("precision"),
            # schema version 1 did not say
            "runtime": self.made.get("runtime", "keras" if self.made else None),
        }

    def check_network(self, network: NetworkInfo) -> None:
        """Check that a network is the one that made the complete shards.

        Raises
        ------
        ExtractionError : other weights, precision or runtime.
        """
        self._check_weights(network.weights_sha256)
        for key, was in self.made.items():
            now = getattr(network, key)
            if was != now:
                what = "weights (SHA-256" if key == "weights_sha256" else f"{key} ("
                raise ExtractionError(
                    f"{self.folder}: made with other {what} {was}, now {now}). "
                    f"Restore the weight file or the machine, or {_START_ANEW}."
                )

    def _check_weights(self, found: str) -> None:
        """Check weights against the hash in the settings, before a picture is embedded."""
        extract = self.settings.extract
        wanted = extract.weights_sha256.get(self.backbone, found)
        if found != wanted:
            raise ExtractionError(
                f"{self.folder}: other weights of {self.backbone!r} than are asked for: expected "
                f"SHA-256 {wanted}, got {found} (of {extract.weights_of(self.backbone)}; it counts "
                "all layers up to the cuts). Name the right file in [extract] weights."
            )

    def open_shard(self, index: int, network: NetworkInfo) -> ShardWriter:
        """Begin one shard."""
        attributes = ShardAttributes(
            settings=json.dumps(self.settings.as_json()),
            recipe=json.dumps(self.recipe),
            weights=network.weights,
            weights_are_random=network.weights.startswith("random:"),
            weights_sha256=network.weights_sha256,
            tiles_sha256=self.tiles_sha256,
            precision=network.precision,
            precision_note=network.note,
            runtime=network.runtime,
            device=network.device,
            created_with=network.versions,
        )
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


def check_backbone_shards(
    settings: ExtractSettings, tiles: Tiles, *, fresh: bool = False
) -> list[BackboneShards]:
    """Return the shards of every backbone, checked.

    Raises
    ------
    ExtractionError : some were made with other settings.
    """
    tiles_sha256 = tiles.sha256  # reads every id and path: once
    checked = []
    for backbone in settings.extract.backbones:
        checked.append(BackboneShards(settings, tiles, backbone, tiles_sha256=tiles_sha256))
        checked[-1].check(fresh=fresh)
    return checked


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _compare_makers(made: Mapping[str, str], stated: Mapping[str, Any]) -> str:
    """Describe in what a shard was made otherwise than those before; version 1 lacks some names."""
    return "; ".join(
        f"{key} was {stated[key]}, {was} in the shards before"
        for key, was in made.items()
        if stated.get(key, was) != was
    )
