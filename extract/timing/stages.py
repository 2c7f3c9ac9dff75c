"""The stage clock: what every worker's seconds went into, and the verdict that follows."""

from __future__ import annotations

import json
import os
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extract.files.atomic import publish
from extract.timing.clock import Clock, peak_rss_bytes

Record = dict[str, Any]  # plain values: it travels between processes
_REMEDIES = {
    "forward": "",
    "read": "; faster storage for the pictures would help",
    "decode": "; more cores would help",
    "write": "; a faster disk for the features would help",
}


@dataclass(slots=True)
class Watch:
    """What one worker does in one go.

    Attributes
    ----------
    decoders : processes that read and decode.
    clocks : seconds of each backbone, summed over processes; reading and decoding count for every backbone that they serve.
    tiles : tiles of each backbone. `n_rejected` : tiles that could not be used.
    waited : seconds in which the device had nothing to do: for pictures (`decode`), for the disk (`write`).
    """

    decoders: int
    clocks: defaultdict[str, Clock] = field(default_factory=lambda: defaultdict(Clock))
    tiles: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    n_rejected: int = 0
    waited: Clock = field(default_factory=lambda: Clock({"decode": 0.0, "write": 0.0}))
    started: float = field(default_factory=time.perf_counter)

    def add_reading(self, clock: Clock, backbones: Iterable[str]) -> None:
        """Add what one batch took to read and decode."""
        for backbone in backbones:
            for stage in ("read", "decode"):
                self.clocks[backbone].seconds[stage] += clock.seconds[stage]

    def record(self, networks: Mapping[str, Any], *, startup: float, beside: int) -> Record:
        """Return what was measured as plain values.

        Parameters
        ----------
        startup : seconds that opening the networks took. beside : memory of the processes that decode [bytes].
        """
        return {
            "worker": f"{socket.gethostname()}-{os.getpid()}",
            "decoders": self.decoders,
            "n_rejected": self.n_rejected,
            "seconds": time.perf_counter() - self.started,
            "waited": dict(self.waited.seconds),
            "startup_seconds": startup,
            "peak_rss_bytes": peak_rss_bytes() + beside,
            "backbones": {
                name: {
                    "tiles": n,
                    "seconds": dict(self.clocks[name].seconds),
                    "device": networks[name].device,
                    "precision": networks[name].precision,
                    "runtime": networks[name].runtime,
                    "note": networks[name].note,
                }
                for name, n in self.tiles.items()
            },
        }


def sum_records(records: list[Record]) -> dict[str, Any]:
    """Return each backbone's stages, as `stages.json` holds them.

    Seconds are summed over workers and processes but for `total`, which is the busiest worker's. Where backbones share a
    run, `total` is the time without what the device spent on the others, and not less than reading and decoding take
    with all processes: what the backbone would have needed alone. `tiles_per_second` is `tiles / total`; `run_seconds` is
    the time of the run with all backbones.
    """
    workers = _by_worker(records)
    said = say_verdict(records)
    return {
        name: _stage(name, workers) | {"verdict": said}
        for name in dict.fromkeys(n for w in workers for n in w["backbones"])
    }


def _by_worker(records: list[Record]) -> list[Record]:
    """Add up the records of each worker."""
    workers: dict[str, Record] = {}
    for record in records:
        key = record["worker"]
        workers[key] = _add(workers[key], record) if key in workers else record
    return list(workers.values())


def _add(a: Any, b: Any, name: str = "") -> Any:
    if isinstance(a, dict):
        return {
            key: _add(a[key], b[key], key) if key in a and key in b else a.get(key, b.get(key))
            for key in {**a, **b}
        }
    if isinstance(a, str) or name == "decoders":
        return a
    return max(a, b) if name in ("peak_rss_bytes", "startup_seconds") else a + b


def _stage(name: str, workers: list[Record]) -> dict[str, Any]:
    mine = [w for w in workers if name in w["backbones"]]
    parts = [w["backbones"][name] for w in mine]
    seconds = {
        stage: sum(part["seconds"][stage] for part in parts)
        for stage in ("read", "decode", "forward", "write")
    }
    total = max(_own_seconds(name, worker) for worker in mine)
    n_tiles = sum(part["tiles"] for part in parts)
    return {
        "tiles": n_tiles,
        "tiles_per_second": n_tiles / total,
        "device": parts[0]["device"],
        "precision": parts[0]["precision"],
        "runtime": parts[0]["runtime"],
        "note": parts[0]["note"],
        "seconds": {k: round(v, 3) for k, v in {**seconds, "total": total}.items()},
        "run_seconds": round(max(w["seconds"] for w in mine), 3),
        "workers": len(mine),
        "startup_seconds": round(max(w["startup_seconds"] for w in mine), 3),
        "peak_rss_bytes": max(w["peak_rss_bytes"] for w in mine),
    }


def _own_seconds(name: str, worker: Record) -> float:
    others = sum(
        part["seconds"]["forward"] for other, part in worker["backbones"].items() if other != name
    )
    seconds = worker["backbones"][name]["seconds"]
    return float(
        max(
            worker["seconds"] - others,
            (seconds["read"] + seconds["decode"]) / worker["decoders"],
            1e-9,
        )
    )


def say_verdict(records: list[Record]) -> str:
    """Describe what bounded a run, as `forward-bound: 97 % of the time`, and what would help."""
    total = sum(r["seconds"] for r in records) or 1e-9
    spent = {"forward": 0.0, "read": 0.0, "decode": 0.0}
    for part in (part for record in records for part in record["backbones"].values()):
        for stage in spent:
            spent[stage] += part["seconds"][stage]
    waited = {stage: sum(r["waited"][stage] for r in records) for stage in ("decode", "write")}
    shares = {
        "forward": spent["forward"],
        "read" if spent["read"] > spent["decode"] else "decode": waited["decode"],
        "write": waited["write"],
    }
    bound = max(shares, key=lambda stage: shares[stage])
    return f"{bound}-bound: {100 * min(1.0, shares[bound] / total):.0f} % of the time{_REMEDIES[bound]}"


def write_stages(features: Path, stages: dict[str, Any], backbones: list[str]) -> None:
    """Put this run's stages in the place of earlier runs'; a run that did nothing changes nothing.

    Raises
    ------
    OSError : `stages.json` cannot be written.
    """
    path = features / "stages.json"
    old = json.loads(path.read_text()) if path.is_file() else {}
    merged = {k: v for k, v in {**old, **stages}.items() if k in backbones}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(merged, indent=2) + "\n")
    publish(partial, path)
