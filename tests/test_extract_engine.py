from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import psutil
import pytest
from joblib import delayed
from joblib.externals.loky import get_reusable_executor
from stub_network import open_stub

from extract.errors import ExtractionError, LockError, SettingsError, WorkerError
from extract.execution.engine import WorkerState, split_ranges
from extract.execution.workers import Cluster
from extract.files.locks import claim_device, locked
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.checksums import dataset_names
from extract.store.embeddings import Embeddings

CUTS = ["block_1_expand_relu:avg", "block_3_expand_relu:map"]
EXTRACT = 'weights = "random:0"'

QUIET = {
    "dashboard_address": None,
    "scheduler_kwargs": {"dashboard_address": ":0"},
}  # 8787 may be taken by a test beside


def extract(path, open_forward=open_stub, **options):
    return run_extraction(
        read_settings(path, ExtractSettings), open_forward=open_forward, **options
    )


def features(path) -> Path:
    return path.parent / "out" / "features"


def data(path, out="out"):
    """Everything that a reader sees, and what each shard's checksums say."""
    folder = path.parent / out / "features"
    with Embeddings(folder / "mobilenetv2.h5") as embeddings:
        seen = [
            embeddings.ids,
            embeddings.is_ok,
            embeddings.pictures,
            *(embeddings.read(cut) for cut in CUTS),
        ]
    sums = []
    for shard in sorted((folder / "mobilenetv2").glob("part-*.h5")):
        with h5py.File(shard) as file:
            sums.append(
                [file[name].attrs["sha256"] for name in dataset_names(file) if name != "stamp"]
            )
    return seen, sums


def check_equal(path, expected):
    seen, sums = data(path)
    for a, b in zip(seen, expected[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert sums == expected[1]


@pytest.fixture
def alone(experiment):
    """A table with one bad picture, made by one process; gives a way to say another engine, and
    what has to come out.
    """
    path = experiment(n=60)
    (path.parent / "tiles" / "3.png").write_text("no picture")
    extract(path)
    expected = data(path)

    def other(line: str) -> Path:
        text = (
            path.read_text()
            .replace(EXTRACT, f"{EXTRACT}\n{line}")
            .replace('out = "out"', 'out = "other/out"')
        )
        (path.parent / "other").mkdir(exist_ok=True)
        changed = path.parent / "other" / "other.toml"
        changed.write_text(
            text.replace('"tiles.csv"', '"../tiles.csv"')
            .replace('"tiles"', '"../tiles"')
            .replace('"other/out"', '"out"')
        )
        return changed

    return other, expected


@pytest.fixture
def unlimited(monkeypatch):
    """Processes with all cores each: fits that were tested here before leave a limit, and workers
    that began under it.
    """
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    get_reusable_executor().shutdown(wait=True)


@pytest.mark.slow
def test_two_processes_give_what_one_gives_bit_for_bit_by_a_real_network(experiment, unlimited):
    path = experiment(n=20)
    subprocess.run(
        [sys.executable, "-m", "extract", "run", "--config", str(path)],
        check=True,
        capture_output=True,
    )
    expected = data(path)  # of a process that nothing else has been run in, as the workers are
    path = experiment(
        n=20, replace={EXTRACT: f"{EXTRACT}\nworkers = 2", 'out = "out"': 'out = "other/out"'}
    )
    extract(path, open_forward=None)
    _, sums = data(path, "other/out")
    assert sums == expected[1]


@pytest.mark.slow
def test_two_processes_give_what_one_gives(alone):
    other, expected = alone
    path = other("workers = 2")
    summary = extract(path)
    check_equal(path, expected)
    assert (summary.n_rejected, summary.stages["mobilenetv2"]["tiles"]) == (1, 60)
    assert "bound" in summary.verdict


def test_a_local_dask_cluster_gives_what_one_process_gives(alone):
    other, expected = alone
    path = other('engine = "dask"\nworkers = 2')
    extract(path)
    check_equal(path, expected)


def test_a_lost_worker_s_shards_are_done_again_by_another(alone, monkeypatch):
    from distributed import LocalCluster

    other, expected = alone
    monkeypatch.setenv("STUB_SECONDS", "0.05")
    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster:
        path = other(f'engine = "dask"\nscheduler = "{cluster.scheduler_address}"')
        victims: list[int] = []
        left: list[int] = []

        def kill_one():
            while len(list(features(path).rglob("part-*.h5"))) < 3:
                time.sleep(0.01)
            left.append(12 - len(list(features(path).rglob("part-*.h5"))))
            victims.append(next(iter(cluster.workers.values())).process.pid)
            os.kill(victims[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        extract(path)
        killer.join()
    assert victims
    assert left[0] > 2
    check_equal(path, expected)


def test_a_local_worker_that_dies_is_one_clear_error_and_the_run_goes_on(alone, monkeypatch):
    other, expected = alone
    path = other("workers = 2")
    monkeypatch.setenv("STUB_SECONDS", "0.05")

    def kill_one():
        while len(list(features(path).rglob("part-*.h5"))) < 3:
            time.sleep(0.01)
        partial = next(iter(features(path).rglob("*.partial")), None)
        while partial is None:
            partial = next(iter(features(path).rglob("*.partial")), None)
        os.kill(int(partial.name.split(".")[-2].rpartition("-")[2]), signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with pytest.raises(
        WorkerError, match=r"a worker process was killed.*run the same command again"
    ):
        extract(path)
    killer.join()
    assert extract(path).done == ["mobilenetv2"]
    check_equal(path, expected)


@pytest.mark.slow
def test_ctrl_c_ends_several_workers_in_the_middle_of_their_shards(experiment):
    path = experiment(
        replace={
            "{id}.png": "{file}.png",
            "shard = 5": "shard = 50000\nworkers = 2",
            '"mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"': '"pixels/8:flat"',
        }
    )
    rows = np.arange(200_000)
    pd.DataFrame(
        {"id": rows, "file": rows % 12, "area": "A", "x": 0.0, "y": 0.0, "income": 0.0}
    ).to_csv(path.parent / "tiles.csv", index=False)
    run = psutil.Popen(
        [sys.executable, "-m", "extract", "run", "--config", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.DEVNULL,
    )
    while run.poll() is None and len(list(features(path).rglob("*.partial"))) < 2:
        time.sleep(0.01)
    others = run.children(recursive=True)
    run.send_signal(signal.SIGINT)
    said = run.communicate()[1]
    assert run.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert len(others) >= 4
    assert psutil.wait_procs(others, timeout=60)[1] == []
    assert not list(features(path).rglob("part-*.h5"))  # nobody waited until a worker was done


def test_resuming_on_workers_makes_just_the_missing_shards(alone):
    other, expected = alone
    path = other("workers = 2")
    extract(path)
    shards = sorted((features(path) / "mobilenetv2").glob("part-*.h5"))
    before = {p: p.stat().st_mtime_ns for p in shards if p.name != "part-00004.h5"}
    shards[4].unlink()
    assert extract(path).stages["mobilenetv2"]["tiles"] == 5
    assert {p: p.stat().st_mtime_ns for p in before} == before
    check_equal(path, expected)


def test_a_scheduler_that_is_not_there_is_one_clear_error(experiment):
    path = experiment(
        replace={EXTRACT: f'{EXTRACT}\nengine = "dask"\nscheduler = "tcp://127.0.0.1:9"'}
    )
    with pytest.raises(WorkerError, match="no Dask scheduler answers there"):
        extract(path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('scheduler = "tcp://a:1"', 'belongs to engine = "dask"'),
        ('engine = "dask"\nscheduler = "tcp://a:1"\nworkers = 2', "not both"),
        ('engine = "spark"', "engine: input should be 'local' or 'dask'"),
        ("workers = 0", "workers"),
    ],
)
def test_settings_that_contradict_are_refused(experiment, lines, message):
    path = experiment(replace={EXTRACT: f"{EXTRACT}\n{lines}"})
    with pytest.raises(SettingsError, match=message):
        read_settings(path, ExtractSettings)


def test_every_missing_shard_is_in_one_range():
    missing = list(range(3, 1000, 2))
    for workers in (1, 2, 7, 600):
        ranges = split_ranges(missing, workers)
        assert [index for part in ranges for index in part] == missing
        assert max(map(len, ranges)) <= 16


def test_each_worker_claims_a_device_of_its_own(tmp_path):
    claims = [claim_device(tmp_path, ["0", "1"]) for _ in range(2)]
    assert [claim.device for claim in claims] == ["0", "1"]
    with pytest.raises(LockError, match="more workers than devices"):
        claim_device(tmp_path, ["0", "1"])
    claims[0].lock.release()
    assert claim_device(tmp_path, ["0", "1"]).device == "0"


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_folder(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads
        with locked(tmp_path):
            child = os.fork()
            if child == 0:
                time.sleep(30)
                os._exit(0)
    try:
        with locked(tmp_path) as note:
            assert note == ""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def zipped(path, names):
    """Put pictures into a .tar, the first name the first picture."""
    archive = path.parent / "tiles.tar"
    archive.unlink(missing_ok=True)
    with tarfile.open(archive, "w") as file:
        for i, name in enumerate(names):
            file.add(path.parent / "tiles" / f"{i}.png", f"{name}.png")
    path.write_text(path.read_text().replace('images = "tiles"', 'images = "tiles.tar"'))


def test_workers_that_live_on_read_a_mended_archive_anew(experiment):
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, **QUIET) as cluster:
        line = f'{EXTRACT}\nengine = "dask"\nscheduler = "{cluster.scheduler_address}"'
        path = experiment(n=20, replace={EXTRACT: line})
        zipped(path, [*range(19), "gone"])
        with pytest.raises(ExtractionError, match="strict"):
            extract(path, strict=True)
        zipped(path, reversed(range(20)))
        assert extract(path, strict=True, fresh=True).n_rejected == 0
        with Embeddings(features(path) / "mobilenetv2.h5") as embeddings:
            contents = embeddings.pictures["content"]
        extract(experiment(n=20, replace={'out = "out"': 'out = "plain"'}))
        with Embeddings(path.parent / "plain" / "features" / "mobilenetv2.h5") as embeddings:
            np.testing.assert_array_equal(contents, embeddings.pictures["content"][::-1])


def decoders_of(process):
    return [
        child
        for child in process.children(recursive=True)
        if "extract.pictures.decoder_pool" in " ".join(child.cmdline())
    ]


def test_a_cluster_s_worker_recovers_from_a_lost_decoder_and_keeps_none(experiment, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setenv("STUB_SECONDS", "0.05")
    with LocalCluster(n_workers=1, threads_per_worker=1, **QUIET) as cluster:
        path = experiment(
            n=60,
            replace={
                EXTRACT: f'{EXTRACT}\nengine = "dask"\nscheduler = "{cluster.scheduler_address}"'
            },
        )
        worker = psutil.Process(next(iter(cluster.workers.values())).process.pid)

        def kill():
            while not (found := decoders_of(worker)) or not list(features(path).rglob("part-*.h5")):
                time.sleep(0.01)
            for decoder in found:
                decoder.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(ExtractionError, match="ended by SIGKILL"):
            extract(path)
        killer.join()
        assert extract(path).n_rejected == 0
        deadline = time.monotonic() + 20
        while decoders_of(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert decoders_of(worker) == []


def test_a_run_of_several_processes_leaves_none_behind(alone):
    other, _ = alone
    extract(other("workers = 2"))
    assert decoders_of(psutil.Process()) == []


def test_the_end_of_a_run_leaves_what_another_has_opened_in_the_same_worker():
    closed = []
    pipeline = type("P", (), {"close": lambda self: closed.append(1)})()
    state = WorkerState(run="other", pipeline=pipeline)
    state.close("mine")
    assert (closed, state.pipeline) == ([], pipeline)
    state.close("other")
    state.close("other")
    assert (closed, state.pipeline) == ([1], None)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_kills_every_worker_is_one_clear_error():
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, **QUIET) as cluster,
        Client(cluster) as client,
    ):
        jobs = [delayed(abs)(-1), delayed(die)(0)]
        with pytest.raises(WorkerError, match=r"died again and again.*too little memory"):
            list(Cluster(client).run(jobs))
