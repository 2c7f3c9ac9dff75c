"""Where units of work run: in this process, in several of this machine, or on a cluster; joblib is the one seam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import joblib

from extract.execution.workers import worker_processes
from models.execution.fit_cell import fit_unit
from models.settings import FitSettings, ModelsSection
from models.store.cells import Cell, Planned
from models.store.fitted import Fitted

_CORES_A_WORKER = 8  # more threads than that gain a fit little
CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How units run.

    Attributes
    ----------
    workers : units at a time; −1 for as many as the cluster has. threads : of each unit.
    scheduler : address of the cluster's, or None.
    """

    workers: int
    threads: int
    scheduler: str | None

    def run(
        self, settings: FitSettings, plans: list[Planned], members: dict[str, list[Cell]]
    ) -> Iterator[Fitted]:
        """Fit every planned run, and give each as it ends; who calls it writes.

        Parameters
        ----------
        plans : runs of one cut should follow each other, so that it is read once.
        members : split → the cells that its stack combines.

        Raises
        ------
        ValueError : no cluster at the address, or the extra `cluster` is not installed.
        """
        settings = settings.model_copy(
            update={"out": settings.folder}
        )  # another process may stand in another folder
        yield from self.each(
            joblib.delayed(fit_unit)(settings, plan, members[plan.cell.split], self.threads)
            for plan in plans
        )

    def each(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Do every job, a `joblib.delayed` call, and give each result as it ends.

        Raises
        ------
        ValueError : no cluster at the address, or the extra `cluster` is not installed; a worker process was killed.
        """
        if self.workers == 1 and not self.scheduler:
            yield from (function(*given) for function, given, _ in jobs)
            return
        order: Any = "generator_unordered"
        with _open_cluster(self.scheduler) if self.scheduler else _open_processes():
            yield from joblib.Parallel(
                n_jobs=self.workers, return_as=order, batch_size=1, pre_dispatch="n_jobs"
            )(jobs)


def read_engine(asked: ModelsSection) -> Engine:
    """Return the engine that the settings ask for.

    One worker with all the cores is the rule up to eight: it holds one cut in memory, and fits use threads.
    """
    if asked.engine == "dask":
        return Engine(
            workers=asked.workers or -1, threads=asked.threads or 1, scheduler=asked.scheduler
        )
    cores = joblib.cpu_count()
    workers = asked.workers or max(1, cores // _CORES_A_WORKER)
    return Engine(
        workers=workers, threads=asked.threads or max(1, cores // workers), scheduler=None
    )


@contextmanager
def _open_processes() -> Iterator[None]:
    try:
        with worker_processes():
            yield
    except BrokenProcessPool as error:
        ends = "".join(
            line for line in str(error).splitlines() if line.startswith("The exit codes")
        )
        raise ValueError(
            "a worker process was killed, most often because memory ran out. Lower [models] workers or memory_gib, "
            f"and run the same command again: what was finished is kept.{f' ({ends})' * bool(ends)}"
        ) from None


@contextmanager
def _open_cluster(scheduler: str) -> Iterator[None]:
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            "[models] engine 'dask' needs the extra 'cluster': pip install 'roofline[cluster]'."
        ) from None
    try:
        client: Any = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"[models] scheduler {scheduler!r}: no Dask scheduler answers there ({error}). Start one with "
            "`dask scheduler`, and workers that see the same folders with `dask worker`."
        ) from None
    with client, joblib.parallel_config(backend="dask"):
        yield
