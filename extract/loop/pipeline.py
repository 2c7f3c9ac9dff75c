"""What a worker keeps open: the pictures, networks, shards, and the processes that decode."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

from joblib import cpu_count

from extract.config.arrays import Array, Pixels
from extract.config.cuts import PIXELS
from extract.errors import DecoderError, ExtractionError
from extract.networks.pixels import PixelForward
from extract.pictures.decoder_pool import DecoderPool
from extract.settings import ExtractSettings
from extract.store.backbone_shards import BackboneShards
from extract.store.network_info import NetworkInfo, StatedNetwork
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import Tiles
from extract.timing.clock import Clock

_MOST_DECODERS = 32  # processes
DECODED_AHEAD = 2  # batches that wait for the device, beside those that each process is busy with
IN_FLIGHT = 3  # batches on the device: one computes, one is copied in, one is copied out


class PendingBatch(Protocol):
    """A batch that the device may still be busy with."""

    def result(self) -> dict[str, Array]: ...  # noqa: D102


class ForwardNetwork(NetworkInfo, Protocol):
    """A network that takes batches: see `extract.networks.forward.Forward`."""

    def submit(self, pictures: Pixels) -> PendingBatch: ...  # noqa: D102


OpenForward = Callable[..., ForwardNetwork]


def choose_forward(open_forward: OpenForward | None) -> OpenForward:
    """Return what opens networks: what is given, or that of this package."""
    return open_forward or _open_frozen


def _open_frozen(
    settings: ExtractSettings, backbone: str, probe: Pixels, **said: Any
) -> ForwardNetwork:
    """Open a network of this package; see `extract.networks.forward.open_forward`.

    Keras takes seconds to load, and neither a finished run nor the pictures themselves need it.
    """
    if backbone == PIXELS:
        return PixelForward(cuts=settings.extract.cuts_of(PIXELS), stored=settings.extract.dtype)
    from extract.networks.forward import open_forward

    return open_forward(settings, backbone, probe, **said)


@dataclass(slots=True, kw_only=True)
class Pipeline:
    """What a worker keeps open: the pictures, each backbone's network and shards, and decoders."""

    settings: ExtractSettings
    reader: TileReader
    backbones: dict[str, BackboneShards]
    networks: dict[str, ForwardNetwork]
    decoders: DecoderPool
    strict: bool
    startup_seconds: float

    def close(self) -> None:
        """End the processes that decode."""
        self.decoders.close()


def open_pipeline(
    settings: ExtractSettings,
    tiles: Tiles,
    backbones: Sequence[BackboneShards],
    open_forward: OpenForward,
    *,
    allow_random: bool = False,
    strict: bool = False,
    share: int = 1,
) -> Pipeline:
    """Start the decoders, and load and compile the networks.

    All workers probe the networks on the same pictures, so that all choose the same precision.

    Parameters
    ----------
    open_forward : `extract.networks.forward.open_forward`, or what stands in for it.
    share : workers that share this machine's cores.

    Raises
    ------
    ExtractionError : complete shards were made with other weights; the decoders cannot start.
    NetworkError : a network cannot be opened.
    """
    began = time.perf_counter()
    reader = TileReader(settings, tiles)
    batch = settings.extract.batch
    n_processes = max(1, min(_MOST_DECODERS, cpu_count() // share))
    n_batches = n_processes + DECODED_AHEAD + IN_FLIGHT + 1
    networks: dict[str, ForwardNetwork] = {}
    try:
        decoders = DecoderPool(
            reader.source, processes=n_processes, batch=batch, n_batches=n_batches
        )  # they start while networks compile
        with ExitStack() as opened:
            opened.callback(decoders.close)
            rows = range(min(len(tiles), batch))
            probe = reader.read(rows, Clock()).pictures
            for backbone in backbones:
                if not backbone.needs_network:
                    networks[backbone.backbone] = StatedNetwork(backbone.latest)
                    continue
                network = open_forward(
                    settings,
                    backbone.backbone,
                    probe,
                    allow_random=allow_random,
                    **backbone.made_in(),
                )
                backbone.check_network(network)
                networks[backbone.backbone] = network
            decoders.wait_until_ready()
            opened.pop_all()
    except DecoderError as error:
        raise ExtractionError(f"{error}. Complete shards are kept.") from error
    return Pipeline(
        settings=settings,
        reader=reader,
        backbones={backbone.backbone: backbone for backbone in backbones},
        networks=networks,
        decoders=decoders,
        strict=strict,
        startup_seconds=time.perf_counter() - began,
    )
