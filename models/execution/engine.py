"""Choose where fits run: in this process, in several of this machine, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import joblib

from extract.execution.workers import Processes, open_cluster
from models.execution.experiment_data import ExperimentData
from models.execution.fit_cell import fit_unit
from models.settings import ModelsSection
from models.store.cells import Cell, Planned
from models.store.fitted import Fitted

_CORES_A_WORKER = 8  # more threads than that gain a fit little


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
        self, data: ExperimentData, plans: list[Planned], members: dict[str, list[Cell]]
    ) -> Iterator[Fitted]:
        """Fit every planned run, and give each as it ends; who calls it writes.

        Parameters
        ----------
        plans : runs of one cut should follow each other, so that it is read once.
        members : split → the cells that its stack combines.

        Raises
        ------
        WorkerError : no cluster answers, Dask is not installed, or a worker was killed.
        """
        yield from self.each(
            joblib.delayed(fit_unit)(data, plan, members[plan.cell.split], self.threads)
            for plan in plans
        )

    def each(self, jobs: Iterable[Any]) -> Iterator[Any]:
        """Do every job, a `joblib.delayed` call, and give each result as it ends.

        Raises
        ------
        WorkerError : no cluster answers, Dask is not installed, or a worker was killed.
        """
        if self.workers == 1 and not self.scheduler:
            yield from (function(*given) for function, given, _ in jobs)
            return
        if self.scheduler:
            with open_cluster("models", self.scheduler) as cluster:
                yield from cluster.run(jobs)
            return
        processes = Processes(self.workers, remedy="[models] workers or memory_gib")
        yield from processes.run(jobs)


def read_engine(asked: ModelsSection) -> Engine:
    """Return the engine that the settings ask for.

    One worker with all the cores is the rule up to eight: it holds one cut in memory, and fits use
    threads.
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
