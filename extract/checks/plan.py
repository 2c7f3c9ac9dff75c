"""Predict what an extraction takes, in bytes and in seconds, from a short real run."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from extract.files.locks import make_folder
from extract.loop.make_shards import make_shards
from extract.loop.pipeline import OpenForward, Pipeline, choose_forward, open_pipeline
from extract.pictures.decode import PICTURE
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.schema import open_embeddings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import Tiles, read_tiles
from extract.timing.clock import peak_rss_bytes
from extract.timing.stages import BackboneStages, WorkerRecord, sum_records

_OTHER_BYTES = PICTURE.itemsize + 8 + 1 + 16  # a row's facts, id, status, reference to its reason


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPlan:
    """One cut: shape of a row, and bytes of the missing rows and of all."""

    shape: list[int]
    bytes: int
    all: int


@dataclass(slots=True, kw_only=True)
class BackbonePlan:
    """One backbone: what is missing, how it would be made, and the seconds that it takes alone."""

    missing_tiles: int
    missing_shards: int
    shards: int
    is_imported: bool
    seconds: float = 0.0
    precision: str = ""
    runtime: str = ""
    device: str = ""
    cuts: dict[str, CutPlan] = field(default_factory=dict)

    def take(self, stage: BackboneStages, cuts: dict[str, CutPlan]) -> None:
        """Take what a probe found."""
        self.seconds = self.missing_tiles / stage["tiles_per_second"]
        self.precision = stage["precision"]
        self.runtime = stage["runtime"]
        self.device = stage["device"]
        self.cuts = cuts


@dataclass(slots=True, kw_only=True)
class Plan:
    """What a run would take now; the probe's fields are empty where nothing is missing."""

    tiles: int
    seconds: float = 0.0
    startup_seconds: float = 0.0
    loop_seconds: float = 0.0
    probe_tiles: int = 0
    verdict: str = ""
    bytes: int = 0
    disk_free_bytes: int
    peak_rss_bytes: int = 0
    backbones: dict[str, BackbonePlan]


def plan_extraction(
    settings: ExtractSettings,
    *,
    seconds: float = 8.0,
    allow_random: bool = False,
    open_forward: OpenForward | None = None,
) -> Plan:
    """Predict bytes and time of what `run` would do now; complete shards cost nothing.

    A few of the table's tiles go through the real loop.

    Parameters
    ----------
    seconds : about how long the probe's loop takes; at least two batches are run.
    allow_random, open_forward : as in `run_extraction`.

    Raises
    ------
    ExtractionError, LockError, TableError, ImageSourceError, NetworkError : as `run_extraction`.
    """
    tiles = read_tiles(settings)
    backbones = list_backbones(settings, tiles)
    for backbone in backbones:
        backbone.find_missing()
    features = settings.folder / "features"
    plan = Plan(
        tiles=len(tiles),
        disk_free_bytes=shutil.disk_usage(nearest_folder(features)).free,
        backbones={backbone.backbone: _plan_backbone(backbone) for backbone in backbones},
    )
    pending = [backbone for backbone in backbones if backbone.needs_network and backbone.missing]
    if pending:
        _probe(plan, pending, open_forward, seconds=seconds, allow_random=allow_random)
    for backbone in backbones:
        cuts = plan.backbones[backbone.backbone].cuts.values()
        plan.bytes += count_missing(backbone) * _OTHER_BYTES + sum(cut.bytes for cut in cuts)
    plan.peak_rss_bytes += peak_rss_bytes()
    return plan


def _probe(
    plan: Plan,
    pending: list[BackboneShards],
    open_forward: OpenForward | None,
    *,
    seconds: float,
    allow_random: bool,
) -> None:
    """Run a few tiles of the table through what is missing, and write into the plan what it took.

    Where backbones lack different shards, the seconds are the sum of what each takes alone.
    """
    settings = pending[0].settings
    features = settings.folder / "features"
    make_folder(features)
    forward = choose_forward(open_forward)
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=features) as folder:
        probe = Probe(settings, pending[0].tiles, pending, Path(folder))
        pipeline, record = probe.run(forward, seconds, allow_random=allow_random)
    plan.peak_rss_bytes = pipeline.decoders.count_bytes()
    pipeline.close()
    plan.startup_seconds = record.startup_seconds
    plan.probe_tiles = record.n_tiles
    stages = sum_records([record])
    for backbone in pending:
        shapes = pipeline.networks[backbone.backbone].shapes
        part = plan.backbones[backbone.backbone]
        part.take(stages[backbone.backbone], _plan_cuts(backbone, shapes))
        plan.verdict = stages[backbone.backbone]["verdict"]
        plan.loop_seconds += part.seconds
    if len({tuple(backbone.missing) for backbone in pending}) == 1:  # one decode, as in the probe
        n_tiles = plan.backbones[pending[0].backbone].missing_tiles
        plan.loop_seconds = n_tiles * record.seconds / record.n_tiles
    plan.seconds = plan.startup_seconds + plan.loop_seconds


def list_backbones(settings: ExtractSettings, tiles: Tiles) -> list[BackboneShards]:
    """List the shards of every backbone that the settings name; none is looked for on disk."""
    return [
        BackboneShards(settings, tiles, name, tiles_sha256=tiles.sha256)
        for name in settings.extract.backbones
    ]


def nearest_folder(path: Path) -> Path:
    """Return the folder itself, or the nearest above it that is there."""
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def count_missing(backbone: BackboneShards) -> int:
    """Count the tiles of the shards that a backbone lacks."""
    slices = [backbone.slices[index] for index in backbone.missing]
    return sum(rows.stop - rows.start for rows in slices)


def count_row_bytes(shape: Sequence[int], dtype: str) -> int:
    """Count the bytes of one row of a cut."""
    return math.prod(shape) * np.dtype(dtype).itemsize


def _plan_backbone(backbone: BackboneShards) -> BackbonePlan:
    part = BackbonePlan(
        missing_tiles=backbone.count_new() if backbone.missing else 0,
        missing_shards=len(backbone.missing),
        shards=len(backbone.shards),
        is_imported=backbone.is_imported,
    )
    if not backbone.missing or not backbone.needs_network:
        there = [backbone.virtual, *backbone.earlier, *backbone.shards]
        with open_embeddings(next(filter(Path.is_file, there))) as file:
            shapes = {name: tuple(data.shape[1:]) for name, data in file["cuts"].items()}
        part.cuts = _plan_cuts(backbone, shapes)
    return part


def _plan_cuts(
    backbone: BackboneShards, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, CutPlan]:
    cuts = {}
    for name, shape in shapes.items():
        row_bytes = count_row_bytes(shape, backbone.settings.extract.dtype)
        cuts[name] = CutPlan(
            shape=list(shape),
            bytes=count_missing(backbone) * row_bytes,
            all=len(backbone.tiles) * row_bytes,
        )
    return cuts


@dataclass(frozen=True, slots=True)
class Probe:
    """A run of the loop itself on a few tiles, spread over the table, into a temporary folder."""

    settings: ExtractSettings
    tiles: Tiles
    pending: list[BackboneShards]
    folder: Path

    def run(
        self, open_forward: OpenForward, seconds: float, *, allow_random: bool
    ) -> tuple[Pipeline, WorkerRecord]:
        """Run one batch, then as many as the seconds allow; return what the latter took."""
        batch = self.settings.extract.batch
        settings, tiles, backbones = self._lay_out(batch, "first")
        pipeline = open_pipeline(
            settings, tiles, backbones, open_forward, allow_random=allow_random
        )
        first = make_shards(pipeline, [0])
        n_batches = max(2, math.ceil(seconds / first.seconds))
        settings, tiles, backbones = self._lay_out(n_batches * batch, "second")
        pipeline.settings = settings
        pipeline.reader = TileReader(settings, tiles)
        pipeline.backbones = {backbone.backbone: backbone for backbone in backbones}
        return pipeline, make_shards(pipeline, [0])

    def _lay_out(
        self, n_tiles: int, name: str
    ) -> tuple[ExtractSettings, Tiles, list[BackboneShards]]:
        """Spread some tiles over the table as one shard; beyond its length they come twice."""
        n_known = len(self.tiles)
        n_rows = min(n_tiles, n_known) if n_known < self.settings.extract.batch else n_tiles
        rows = np.arange(n_rows) * max(1, n_known // n_rows) % n_known
        tiles = replace(
            self.tiles,
            id=self.tiles.id.iloc[rows].reset_index(drop=True),
            path=self.tiles.path.iloc[rows].reset_index(drop=True),
        )
        extract = self.settings.extract.model_copy(update={"shard": n_rows})
        update = {"out": self.folder / name, "extract": extract}
        settings = self.settings.model_copy(update=update)
        backbones = [
            BackboneShards(settings, tiles, backbone.backbone, tiles_sha256="")
            for backbone in self.pending
        ]
        for backbone in backbones:
            backbone.folder.mkdir(parents=True)
        return settings, tiles, backbones
