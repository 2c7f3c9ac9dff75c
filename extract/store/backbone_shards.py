"""The shards of one backbone: which exist, are missing, or were made with other settings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from extract.errors import EmbeddingsError, ExtractionError
from extract.files.hashing import hash_text
from extract.pictures.archives import open_images
from extract.pictures.decode import PICTURE
from extract.pictures.image_folder import Images
from extract.settings import ExtractSettings
from extract.store.columns import read_column, read_rejects
from extract.store.kept_rows import KeptRows, Match, Stamps
from extract.store.network_info import NetworkInfo
from extract.store.recipes import IMPORTED, compare_recipes, describe_recipe, list_lacking
from extract.store.schema import (
    STAMPED_VERSION,
    ShardAttributes,
    open_embeddings,
    read_attributes,
)
from extract.store.shards import ShardWriter, write_virtual
from extract.tables.tile_table import Tiles

# the same in all shards of a backbone
MADE_WITH = ("precision", "runtime", "weights_sha256", "float32_cuts")
_START_ANEW = "start anew with --fresh (FRESH=1 for make)"


class BackboneShards:
    """The shards of one backbone.

    A shard is that of its own rows: where the table grew, the shards whose rows are the same stay.
    The others are renamed to `earlier-….h5`, and their rows are used again (`KeptRows`) until all
    shards are complete. Where a cut was added, nothing is used again: one pass through the network
    makes all of its cuts.

    Attributes
    ----------
    slices : rows of the table in each shard.
    shards : paths of the shards.
    missing : numbers of the shards to make: all, until `find_missing` or `check` was called.
    earlier : shards of other rows, from the earliest to the latest.
    made : what the shards were made with, by the names in `MADE_WITH`; empty where there are none.
    is_imported : whether the features come from elsewhere, so that there is nothing to make.
    needs_network : whether rows are missing that no earlier shard has.
    """

    def __init__(
        self,
        settings: ExtractSettings,
        tiles: Tiles,
        backbone: str,
        *,
        tiles_sha256: str,
        retry: bool = False,
    ) -> None:
        self.settings = settings
        self.tiles = tiles
        self.backbone = backbone
        self.tiles_sha256 = tiles_sha256
        self.retry = retry
        features = settings.folder / "features"
        size = settings.extract.shard
        self.folder = features / backbone
        self.virtual = features / f"{backbone}.h5"
        starts = range(0, len(tiles), size)
        self.slices = [slice(start, min(start + size, len(tiles))) for start in starts]
        self.shards = [self.folder / f"part-{i:05d}.h5" for i in range(len(starts))]
        self.missing = list(range(len(starts)))
        self.earlier = self.list_existing("earlier")
        self.made: dict[str, str] = {}
        self.is_imported = False
        self.needs_network = True

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """What the numbers of a row depend on, as JSON: shards of another recipe are refused."""
        return describe_recipe(self.settings, self.backbone)

    @cached_property
    def kept(self) -> KeptRows | None:
        """Rows of earlier shards that have every cut; None where there are none."""
        whole = self._list_whole()
        return KeptRows(whole, retry=self.retry) if whole else None

    @property
    def latest(self) -> Path:
        """The latest of the earlier shards that have every cut."""
        return self._list_whole()[-1]

    def _list_whole(self) -> list[Path]:
        attributes = {shard: read_attributes(shard) for shard in self.earlier}
        return [shard for shard in self.earlier if not list_lacking(attributes[shard], self.recipe)]

    @cached_property
    def images(self) -> Images:
        """The pictures."""
        return open_images(self.settings.tiles)

    def stamp(self, rows: range | slice) -> Stamps:
        """Return what tells whether the pictures of some rows of the table have changed."""
        paths = self.tiles.path.iloc[rows.start : rows.stop]
        return np.array([self.images.stamp(path) for path in paths], np.uint64)

    def match(self, rows: range | slice, stamps: Stamps) -> Match | None:
        """Return which rows of the table are kept; None where there are no earlier shards."""
        ids = self.tiles.id.iloc[rows.start : rows.stop]
        return self.kept.match(ids, stamps) if self.kept else None

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
        attributes = self._compare([*self.earlier, *existing])
        if self.made:
            self._check_weights(self.made.get("weights_sha256", ""))
        complete = {shard for shard in existing if self._is_current(shard, attributes[shard])}
        self.missing = [i for i, shard in enumerate(self.shards) if shard not in complete]
        self.earlier += [shard for shard in existing if shard not in complete]
        self.needs_network = self.count_new() > 0

    def check(self, *, fresh: bool) -> None:
        """Find the missing shards, and remove partial ones; with `fresh` all that was made here.

        Raises
        ------
        ExtractionError : shards made with other settings; names them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if fresh and not self.are_imported(self.list_existing()):
            self.clear()
            _remove(self.earlier)
            self.earlier = []
        self.find_missing()
        if self.is_imported:
            return
        _remove(self.folder.glob("*.partial"))
        if not self._is_virtual_current():
            self.virtual.unlink(missing_ok=True)
        self.earlier = [_rename_earlier(shard) for shard in self.earlier]
        self.__dict__.pop("kept", None)

    def count_new(self) -> int:
        """Count the tiles of missing shards that no earlier shard has."""
        n_new = 0
        for index in self.missing:
            rows = self.slices[index]
            match = self.match(rows, self.stamp(rows)) if self.kept else None
            n_rows = rows.stop - rows.start
            n_new += n_rows - (0 if match is None else int(match.is_same.sum()))
        return n_new

    def clear(self) -> None:
        """Remove everything that was made here, but earlier shards."""
        if not self.is_imported:
            partial = self.folder.glob("*.partial")
            _remove([self.virtual, *self.list_existing(), *partial])

    def list_existing(self, kind: str = "part") -> list[Path]:
        """Return the complete shards in the folder, whoever made them, or the earlier ones."""
        found = sorted(self.folder.glob(f"{kind}-*.h5"))
        return sorted(found, key=lambda path: path.stat().st_mtime_ns) if kind != "part" else found

    def hash_rows(self, rows: slice) -> str:
        """Return a hash of the ids and paths of some rows of the table."""
        ids = self.tiles.id.iloc[rows]
        texts = [str(ids.dtype), *ids.astype(str), *self.tiles.path.iloc[rows]]
        return hash_text("\0".join(texts))

    def _is_current(self, shard: Path, attributes: ShardAttributes) -> bool:
        """Return whether a shard is one of those of the table, with all its pictures as they are.

        Shards of schema versions 1 and 2 tell for which table they were made, and do not tell when
        pictures changed.
        """
        if shard not in self.shards:
            return False
        rows = self.slices[self.shards.index(shard)]
        if list_lacking(attributes, self.recipe):
            return False
        recipe = json.loads(attributes.get("recipe", "{}"))
        if int(attributes["schema_version"]) < STAMPED_VERSION:
            is_same_size = recipe.get("shard") == self.settings.extract.shard
            is_same = is_same_size and recipe.get("tiles") == self.tiles_sha256
            return is_same and not (self.retry and read_rejects([shard]))
        if recipe.get("tiles") != self.hash_rows(rows):
            return False
        with open_embeddings(shard) as file:
            then = read_column(file, shard, "stamp")
        now = self.stamp(rows)
        is_same = (then == now) | (now == 0)
        return bool(is_same.all()) and not (self.retry and read_rejects([shard]))

    def _is_virtual_current(self) -> bool:
        """Return whether the virtual file is that of these shards and this table."""
        try:
            attributes = read_attributes(self.virtual)
        except EmbeddingsError:
            return False
        names = [shard.name for shard in self.shards]
        is_same_table = attributes.get("tiles_sha256") == self.tiles_sha256
        is_complete = not self.missing and not self.earlier
        return is_complete and is_same_table and json.loads(attributes["shards"]) == names

    def are_imported(self, existing: list[Path]) -> bool:
        """Return whether shards come from elsewhere, by the first that can be read."""
        for shard in existing:
            with suppress(EmbeddingsError):
                return read_attributes(shard).get("weights") == IMPORTED
        return False

    def is_whole(self) -> bool:
        """Return whether the virtual file and all shards that it names are there."""
        if not self.virtual.is_file():
            return False
        names = json.loads(read_attributes(self.virtual).get("shards", "[]"))
        return all((self.folder / name).is_file() for name in names)

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

    def _compare(self, existing: list[Path]) -> dict[Path, ShardAttributes]:
        """Compare every shard with these settings and with the first; note what made them.

        A shard may be another's: copied from another folder, or made by another machine.
        """
        others: dict[str, str] = {}
        found: dict[Path, ShardAttributes] = {}
        for shard in existing:
            found[shard] = read_attributes(shard)
            stated: Mapping[str, Any] = {**found[shard]}
            is_whole = not list_lacking(found[shard], self.recipe)
            differs = self.difference(found[shard])
            if is_whole and not differs:
                differs = _compare_makers(self.made, stated)
            if differs:
                others[shard.name] = differs
            elif is_whole:
                self.made |= {key: str(stated[key]) for key in MADE_WITH if key in stated}
        if not others:
            return found
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
        return compare_recipes(attributes, self.recipe)

    def made_in(self) -> dict[str, str | None]:
        """Return what complete shards were made with, for `open_forward`; None without shards."""
        return {
            "precision": self.made.get("precision"),
            # schema version 1 did not say
            "runtime": self.made.get("runtime", "keras" if self.made else None),
            "float32_cuts": self.made.get("float32_cuts", "" if self.made else None),
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
        rows = self.slices[index]
        tiles_sha256 = self.hash_rows(rows)
        attributes = ShardAttributes(
            settings=json.dumps(self.settings.as_json()),
            recipe=json.dumps({**self.recipe, "tiles": tiles_sha256}),
            weights=network.weights,
            weights_are_random=network.weights.startswith("random:"),
            weights_sha256=network.weights_sha256,
            tiles_sha256=tiles_sha256,
            precision=network.precision,
            precision_note=network.note,
            float32_cuts=network.float32_cuts,
            runtime=network.runtime,
            device=network.device,
            created_with=network.versions,
        )
        return ShardWriter(
            self.shards[index],
            self.tiles.id.iloc[rows],
            network.shapes,
            dtype=self._choose_types(network),
            attributes=attributes,
            facts=PICTURE,
        )

    def _choose_types(self, network: NetworkInfo) -> dict[str, str]:
        exact = network.float32_cuts.split()
        dtype = self.settings.extract.dtype
        return {name: "float32" if name in exact else dtype for name in network.shapes}

    def finish(self) -> None:
        """Write the virtual file over the complete shards, unless it is there already."""
        if self.is_imported:
            return
        if self.missing or not self.virtual.is_file():
            write_virtual(self.virtual, self.shards, tiles_sha256=self.tiles_sha256)
        _remove(self.earlier)


def check_backbone_shards(
    settings: ExtractSettings, tiles: Tiles, *, fresh: bool = False, retry: bool = False
) -> list[BackboneShards]:
    """Return the shards of every backbone, checked.

    Parameters
    ----------
    fresh : throw away what is there. `retry` : make rows again that were rejected.

    Raises
    ------
    ExtractionError : some were made with other settings.
    """
    tiles_sha256 = tiles.sha256  # reads every id and path: once
    checked = []
    for backbone in settings.extract.backbones:
        shards = BackboneShards(settings, tiles, backbone, tiles_sha256=tiles_sha256, retry=retry)
        shards.check(fresh=fresh)
        checked.append(shards)
    return checked


def _rename_earlier(shard: Path) -> Path:
    """Take a shard out of those of the table; its rows are used again."""
    if shard.name.startswith("earlier-"):
        return shard
    return shard.rename(shard.with_name(f"earlier-{uuid4().hex}.h5"))


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
