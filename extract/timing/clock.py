"""Seconds by stage, and the most memory that a process held."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil


@dataclass(slots=True)
class Clock:
    """Seconds by stage, summed over threads and processes."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("read", "decode", "forward", "write"), 0.0)
    )

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the time inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def add(self, other: Clock) -> None:
        """Add the seconds of another clock, stage by stage."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds


def peak_rss_bytes() -> int:
    """Return the most memory that this process has held since its start [bytes].

    Where the operating system keeps no record, this is what the process holds now.
    """
    try:
        import resource
    except ImportError:
        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
