"""Share jobs among processes of this machine or the workers of a Dask cluster.

A job is a `joblib.delayed` call. joblib shares jobs among processes; its Dask backend is not used,
because it waits for ever where a job kills every worker that takes it (joblib 1.6.0).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import joblib
import psutil

from extract.errors import WorkerError

CONNECT_SECONDS = 10
_WAIT_FOR_WORKERS_SECONDS = 600
_JOBS_AHEAD = 2  # for each thread of a cluster: one runs, one is there already
_PARENT_CHECK_SECONDS = 0.5


class Processes:
    """Worker processes of this machine, which keep what they hold and end with their parent.

    Parameters
    ----------
    n_workers : how many. `remedy` : settings to lower where memory ran out.
    """

    def __init__(self, n_workers: int, *, remedy: str) -> None:
        self.n_workers = n_workers
        self.workers_per_host = n_workers
        self._remedy = remedy

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Do every job, and yield each result as it ends.

        Raises
        ------
        WorkerError : a process was killed.
        """
        order: Any = "generator_unordered"
        start = {"initializer": _start_worker, "initargs": (os.getpid(),)}
        try:
            with joblib.parallel_config(backend="loky", **start):
                parallel = joblib.Parallel(
                    n_jobs=self.n_workers, return_as=order, batch_size=1, pre_dispatch="n_jobs"
                )
                yield from parallel(jobs)
        except BrokenProcessPool as error:
            codes = [s for s in str(error).splitlines() if s.startswith("The exit codes")]
            exit_codes = f" ({codes[0]})" if codes else ""
            raise WorkerError(
                "a worker process was killed, most often because memory ran out. Lower "
                f"{self._remedy}, and run the same command again: what was finished is kept."
                f"{exit_codes}"
            ) from None

    def stop(self) -> None:
        """End the processes; joblib would keep them, and their GPUs, for five minutes."""
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(kill_workers=True).shutdown(wait=True, kill_workers=True)


class Cluster:
    """Workers of a Dask cluster; what a lost worker had is done again by another.

    Parameters
    ----------
    client : `distributed.Client`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        self.n_workers = len(workers)
        self.workers_per_host = max(Counter(worker["host"] for worker in workers).values())

    def run(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Do every job, and yield each result as it ends.

        Raises
        ------
        WorkerError : every worker that took a job died.
        """
        from distributed import KilledWorker, as_completed

        waiting = iter(jobs)
        n_ahead = _JOBS_AHEAD * sum(self._client.nthreads().values())
        running = as_completed(map(self._submit, islice(waiting, n_ahead)))
        try:
            for future in running:
                yield future.result()
                future.release()
                running.update(map(self._submit, islice(waiting, 1)))
        except KilledWorker as error:
            raise WorkerError(
                f"workers of the cluster died again and again ({error}). Look for too little "
                "memory, then run the same command again: what was finished is kept."
            ) from None

    def _submit(self, job: Any) -> Any:
        function, arguments, options = job
        return self._client.submit(function, *arguments, pure=False, **options)

    def call_everywhere(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function once in every worker that is still there."""
        self._client.run(function, *arguments, on_error="ignore")


@contextmanager
def open_cluster(section: str, scheduler: str | None, n_workers: int = 1) -> Iterator[Cluster]:
    """Connect to a Dask cluster, or make one on this machine for as long as it is needed.

    Parameters
    ----------
    section : of the settings, for messages. `scheduler` : address, or None to make a cluster.
    n_workers : workers of the cluster that is made.

    Raises
    ------
    WorkerError : Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise WorkerError(
            f"[{section}] engine = \"dask\" needs the extra 'cluster': pip install '.[cluster]'."
        ) from None
    with ExitStack() as stack:
        address: Any = scheduler
        if scheduler is None:
            any_port: dict[str, Any] = {"dashboard_address": ":0"}
            local = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                dashboard_address=None,
                scheduler_kwargs=any_port,
            )
            address = stack.enter_context(local)
        try:
            client: Any = Client(address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise WorkerError(
                f"[{section}] scheduler {scheduler!r}: no Dask scheduler answers there ({error}). "
                "Start one with `dask scheduler`, and workers that see the same folders with "
                "`dask worker`, or mend the address."
            ) from None
        stack.enter_context(client)
        if not client.scheduler_info()["workers"]:
            client.wait_for_workers(1, timeout=_WAIT_FOR_WORKERS_SECONDS)
        yield Cluster(client)


def list_gpus() -> list[str]:
    """List the NVIDIA GPUs that this process may use, without loading any framework."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    command = ["nvidia-smi", "-L"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    n_gpus = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(number) for number in range(n_gpus)]


def show_only_gpu(gpu: str) -> None:
    """Hide all other GPUs from frameworks that this process loads from now on.

    The environment is the only place where all of them look: this is its one writer in `extract`.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = gpu


def _start_worker(parent: int) -> None:
    """Let a process hold what it opened as long as its parent lives, and no longer.

    joblib takes 300 MB more than after the first job for a leak, and would replace the process,
    with a warning (joblib issue 883); there is no public setting. TensorFlow alone is more than
    that. Where the parent is killed, joblib would let the process work on, holding its GPU against
    the next run.
    """
    from joblib.externals.loky import process_executor

    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent and psutil.pid_exists(parent):  # Windows keeps the parent's id
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)
