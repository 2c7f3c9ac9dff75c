"""Seconds that a device works for each of several networks that are sent batches side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from extract.timing.clock import Clock

Rows = TypeVar("Rows")


class DeviceMeter:
    """Fetch batches as soon as the device has them, and count its seconds for their network.

    The time between two batches that come back is counted for the later one, from when it was sent:
    so the seconds of all networks add up to the time in which the device had any work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_end = 0.0
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def fetch(
        self, network: str, fetch: Callable[[], Rows], clock: Clock, *, sent: float
    ) -> Future[Rows]:
        """Wait for a batch in a thread of its network.

        Parameters
        ----------
        fetch : waits for the batch, and returns it.
        clock : of the network; its `forward` is added to.
        sent : when the batch was sent, by `time.perf_counter`.
        """
        if network not in self._threads:
            self._threads[network] = ThreadPoolExecutor(1, f"fetch {network}")
        return self._threads[network].submit(self._wait, fetch, clock, sent)

    def close(self) -> None:
        """End the threads, without waiting for what nobody will ask for."""
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def _wait(self, fetch: Callable[[], Rows], clock: Clock, sent: float) -> Rows:
        rows = fetch()
        with self._lock:
            end = time.perf_counter()
            clock.seconds["forward"] += end - max(sent, self._last_end)
            self._last_end = end
        return rows
