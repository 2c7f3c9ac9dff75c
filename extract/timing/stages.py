"""Record what the seconds of a run went into, and name the stage that bounds it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TypedDict

from extract.files.atomic import write_atomically
from extract.timing.clock import Clock

_REMEDIES = {
    "forward": "",
    "read": "; faster storage for the pictures would help",
    "decode": "; more cores would help",
    "write": "; a faster disk for the features would help",
}


@dataclass(slots=True, kw_only=True)
class BackboneRecord:
    """What one worker did for one backbone.

    Attributes
    ----------
    tiles : tiles embedded. `kept` : tiles whose rows were kept from earlier shards.
    clock : seconds by stage, summed over processes; reading and decoding count for every
        backbone that they serve.
    """

    device: str
    precision: str
    runtime: str
    note: str
    tiles: int = 0
    kept: int = 0
    clock: Clock = field(default_factory=Clock)


@dataclass(slots=True, kw_only=True)
class WorkerRecord:
    """What one worker did in one go.

    Attributes
    ----------
    worker : host and process. `decoders` : its processes that read and decode.
    n_tiles, n_rejected : tiles read, and those of them that could not be used.
    waited : seconds in which the device idled: for pictures (`decode`), for the disk (`write`).
    seconds : duration of the loop. `startup_seconds` : time to open the networks.
    peak_rss_bytes : most memory of the worker and its decoders.
    """

    worker: str
    decoders: int
    startup_seconds: float
    backbones: dict[str, BackboneRecord]
    waited: Clock = field(default_factory=Clock)
    n_tiles: int = 0
    n_rejected: int = 0
    seconds: float = 0.0
    peak_rss_bytes: int = 0


class BackboneStages(TypedDict):
    """One backbone's entry in `stages.json`."""

    tiles: int
    kept: int
    tiles_per_second: float
    device: str
    precision: str
    runtime: str
    note: str
    seconds: dict[str, float]
    run_seconds: float
    workers: int
    startup_seconds: float
    peak_rss_bytes: int
    verdict: str


def sum_records(records: Sequence[WorkerRecord]) -> dict[str, BackboneStages]:
    """Return each backbone's stages, as `stages.json` holds them.

    Seconds are summed over workers but for `total`, which is the busiest worker's. Where
    backbones share a run, `total` leaves out what the device spent on the others, and is at
    least what reading and decoding take with all processes: what the backbone would have needed
    alone. `tiles_per_second` is `tiles / total`; `run_seconds` is the time of the whole run.
    """
    by_worker: defaultdict[str, list[WorkerRecord]] = defaultdict(list)
    busy: defaultdict[str, dict[str, list[WorkerRecord]]] = defaultdict(dict)
    for record in records:
        mine = by_worker[record.worker]
        mine.append(record)
        for name in record.backbones:
            busy[name][record.worker] = mine
    verdict = describe_bottleneck(records)
    return {name: _sum_backbone(name, list(its.values()), verdict) for name, its in busy.items()}


def _sum_backbone(name: str, busy: list[list[WorkerRecord]], verdict: str) -> BackboneStages:
    """Return the stages of a backbone, from the records of each worker that worked on it."""
    records = list(chain.from_iterable(busy))
    parts = [record.backbones[name] for record in records if name in record.backbones]
    total = max(_own_seconds(name, mine) for mine in busy)
    clock = Clock()
    for part in parts:
        clock.add(part.clock)
    seconds = {**clock.seconds, "total": total}
    n_tiles = sum(part.tiles for part in parts)
    return {
        "tiles": n_tiles,
        "kept": sum(part.kept for part in parts),
        "tiles_per_second": n_tiles / total,
        "device": parts[0].device,
        "precision": parts[0].precision,
        "runtime": parts[0].runtime,
        "note": parts[0].note,
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "run_seconds": round(max(sum(r.seconds for r in mine) for mine in busy), 3),
        "workers": len(busy),
        "startup_seconds": round(max(r.startup_seconds for r in records), 3),
        "peak_rss_bytes": max(r.peak_rss_bytes for r in records),
        "verdict": verdict,
    }


def _own_seconds(name: str, records: list[WorkerRecord]) -> float:
    """Return the seconds that one worker would have needed for this backbone alone."""
    alone = sum(record.seconds for record in records)
    decoding = 0.0
    for record in records:
        for other, part in record.backbones.items():
            if other == name:
                decoding += part.clock.seconds["read"] + part.clock.seconds["decode"]
            else:
                alone -= part.clock.seconds["forward"]
    return max(alone, decoding / records[0].decoders, 1e-9)


def describe_bottleneck(records: Sequence[WorkerRecord]) -> str:
    """Return what bounded a run, as `forward-bound: 97 % of the time`, and what would help.

    Where several networks ran, the rate of the run and each one's share of the device stand behind.
    """
    spent = Clock()
    waited = Clock()
    for record in records:
        waited.add(record.waited)
        for part in record.backbones.values():
            spent.add(part.clock)
    reading = "read" if spent.seconds["read"] > spent.seconds["decode"] else "decode"
    shares = {
        "forward": spent.seconds["forward"],
        reading: waited.seconds["decode"],
        "write": waited.seconds["write"],
    }
    bound = max(shares, key=lambda stage: shares[stage])
    total = sum(record.seconds for record in records) or 1e-9
    percent = 100 * min(1.0, shares[bound] / total)
    return (
        f"{bound}-bound: {percent:.0f} % of the time{_REMEDIES[bound]}{_describe_shares(records)}"
    )


def _describe_shares(records: Sequence[WorkerRecord]) -> str:
    """Return the rate of a run of several networks, and which share of the device each had."""
    forward: defaultdict[str, float] = defaultdict(float)
    seconds: defaultdict[str, float] = defaultdict(float)
    for record in records:
        seconds[record.worker] += record.seconds
        for name, part in record.backbones.items():
            forward[name] += part.clock.seconds["forward"]
    total = sum(forward.values())
    if len(forward) < 2 or total == 0:
        return ""
    n_tiles = sum(record.n_tiles for record in records)
    longest = max(seconds.values())
    rate = n_tiles / max(longest, 1e-9)
    shares = ", ".join(f"{name} {100 * part / total:.0f} %" for name, part in forward.items())
    return (
        f"; {n_tiles} tiles in {longest:.1f} s: {rate:.1f} tiles/s; of the device's time {shares}"
    )


def write_stages(features: Path, stages: dict[str, BackboneStages], backbones: list[str]) -> None:
    """Replace the entries of `stages.json` by this run's; a backbone not worked on keeps its own.

    Raises
    ------
    OSError : `stages.json` cannot be written.
    """
    path = features / "stages.json"
    merged: dict[str, BackboneStages] = json.loads(path.read_text()) if path.is_file() else {}
    merged.update(stages)
    kept = {name: entry for name, entry in merged.items() if name in backbones}
    with write_atomically(path) as partial:
        partial.write_text(json.dumps(kept, indent=2) + "\n")
