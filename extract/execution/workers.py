"""Worker processes of this machine: joblib's, which keep what they hold, and end with their parent."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import joblib

_LOOK_SECONDS = 0.5


@contextmanager
def worker_processes() -> Iterator[None]:
    """Have `joblib.Parallel` inside take such processes."""
    with joblib.parallel_config(backend="loky", initializer=_open_worker, initargs=(os.getpid(),)):
        yield


def _open_worker(parent: int) -> None:
    """Let a process hold the cut that it has read, and the networks that it has compiled, as long as its parent lives.

    joblib takes 300 MB more than after the first job for a leak, and would replace the process between two jobs, with a
    warning (joblib issue 883); there is no public setting. TensorFlow alone is more than that. And where the parent is killed
    outright it would let the process work on, holding its GPU against the next run, and then wait for five minutes.
    """
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)
