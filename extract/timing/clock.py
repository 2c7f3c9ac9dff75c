"""Seconds by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


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
