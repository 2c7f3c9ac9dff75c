"""Wherever units run, they give the same numbers; an error says which unit it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from made_experiment import change, fit, make_experiment
from pydantic import ValidationError

from extract.errors import SettingsError, WorkerError
from models.execution.engine import Engine, read_engine
from models.families.nearest_neighbours import Neighbours
from models.settings import ModelsSection
from models.store.runs import read_predictions, read_run

NAMES = ["mean", "ridge", "knn", "ridge@area", "stack"]

QUIET = {
    "dashboard_address": None,
    "scheduler_kwargs": {"dashboard_address": ":0"},
}  # 8787 may be taken by a test beside


def predictions(path: Path) -> pd.DataFrame:
    folder = change(path).folder
    frames = []
    for file in sorted(folder.glob("runs/**/run.json")):
        run = json.loads(file.read_text())
        frames.append(read_predictions(folder, run["split"], run["cut"], run["model"]))
    return pd.concat(frames)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = make_experiment(tmp_path_factory.mktemp("local"), names=NAMES)
    assert len(fit(path).fitted) == 10
    return predictions(path)


def test_two_processes_give_what_one_gives(tmp_path: Path, local: pd.DataFrame) -> None:
    path = make_experiment(tmp_path, names=NAMES)
    assert len(fit(path, workers=2, threads=1).fitted) == 10
    pd.testing.assert_frame_equal(predictions(path), local)


def test_a_cluster_gives_what_one_process_gives(tmp_path: Path, local: pd.DataFrame) -> None:
    distributed = pytest.importorskip("distributed")
    path = make_experiment(tmp_path, names=NAMES)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, **QUIET
    ) as cluster:
        heard = fit(path, engine="dask", scheduler=cluster.scheduler_address)
        assert len(heard.fitted) == 10
        assert fit(path).fitted == set()
    pd.testing.assert_frame_equal(predictions(path), local)


def test_one_worker_up_to_eight_cores_then_more(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, workers, threads in ((2, 1, 2), (8, 1, 8), (64, 8, 8), (3, 1, 3)):
        monkeypatch.setattr(joblib, "cpu_count", lambda cores=cores: cores)
        engine = read_engine(ModelsSection())
        assert (engine.workers, engine.threads) == (workers, threads)
    assert read_engine(ModelsSection(workers=2)).threads == 1


def test_a_unit_that_fails_is_named_and_the_finished_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_experiment(tmp_path, names=["mean", "ridge", "knn"])

    def broken(*_: object, **__: object) -> None:
        raise ValueError("no neighbour to be found")

    with monkeypatch.context() as patched:
        patched.setattr(Neighbours, "cross_fit", broken)
        with pytest.raises(ValueError, match=r"area net/last:avg knn: no neighbour to be found"):
            fit(path)
    assert read_run(change(path).folder, "area", "net/last:avg", "ridge")["cells"]
    assert {model for _, _, model, _ in fit(path).fitted} == {"knn"}


def test_every_fit_is_told_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, path = [], make_experiment(tmp_path, names=["forest"])
    from models.families.trees.forest import Forest

    def cross_fit(self: Forest, X: object, Y: np.ndarray, **_: object) -> None:
        told.append(self.n_jobs)
        raise ValueError("seen enough")

    monkeypatch.setattr(Forest, "cross_fit", cross_fit)
    with pytest.raises(ValueError, match="seen enough"):
        fit(path, threads=3)
    assert told == [3]


@pytest.mark.parametrize("values", [{"engine": "dask"}, {"scheduler": "tcp://10.0.0.1:8786"}])
def test_a_cluster_needs_both_its_keys(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="go together"):
        ModelsSection.model_validate(values)


def test_a_stack_without_members_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'stack' combines models that see pictures"):
        make_experiment(tmp_path, names=["mean", "ridge+groups", "stack"])


def test_no_scheduler_at_the_address_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extract.execution.workers.CONNECT_SECONDS", 1)
    path = make_experiment(tmp_path)
    with pytest.raises(WorkerError, match="no Dask scheduler answers there"):
        fit(path, engine="dask", scheduler="tcp://127.0.0.1:9")


_GROWN: list[np.ndarray] = []


def grow(n_mib: int) -> int:
    _GROWN.append(np.ones(n_mib << 17))
    time.sleep(0.6)
    return os.getpid()


@pytest.mark.filterwarnings("error")
def test_a_worker_that_grows_by_what_it_holds_is_not_replaced() -> None:
    engine = Engine(workers=2, threads=1, scheduler=None)
    assert len(set(engine.each(joblib.delayed(grow)(200) for _ in range(8)))) == 2


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_said_in_a_line_with_a_remedy() -> None:
    with pytest.raises(
        WorkerError, match=r"a worker process was killed.*Lower \[models\] workers.*SIGKILL\(-9\)"
    ) as caught:
        list(
            Engine(workers=2, threads=1, scheduler=None).each(
                joblib.delayed(die)(i) for i in range(2)
            )
        )
    assert "\n" not in str(caught.value)


def test_workers_end_with_a_parent_that_is_killed_outright() -> None:
    code = (
        "import joblib; from models.execution.engine import Engine; from test_models_engine import "
        "name_and_sleep as job\n"
        "for pid in Engine(workers=2, threads=1, scheduler=None).each(joblib.delayed(job)(s) for s "
        "in (0, 0, 60, 60)):"
        " print(pid, flush=True)"
    )
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}:{tests}"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        workers = {int(process.stdout.readline()) for _ in range(2)}
        process.kill()
    give_up = time.monotonic() + 15
    while any(map(is_alive, workers)) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))


def name_and_sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
