from __future__ import annotations

import random
import shutil
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest
from made_processes import start_extraction
from stub_network import open_stub

from extract.errors import ExtractionError, LockError
from extract.files.locks import locked
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings
from extract.store.verify import find_damage


def read_all(settings):
    with Embeddings(settings.folder / "features" / "mobilenetv2.h5") as embeddings:
        return [
            embeddings.ids,
            embeddings.is_ok,
            embeddings.pictures,
            *(embeddings.read(cut) for cut in embeddings.cuts),
        ]


def complete(settings):
    return {p.name: p.stat().st_mtime_ns for p in (settings.folder / "features").rglob("part-*.h5")}


@pytest.mark.slow
def test_killed_at_20_random_moments_nothing_is_lost_torn_or_done_twice(experiment):
    path = experiment(n=300)
    settings = read_settings(path, ExtractSettings)
    run_extraction(settings, open_forward=open_stub)
    whole = read_all(settings)
    shutil.rmtree(settings.folder)
    moments, kills, before = random.Random(0), 0, {}
    while kills < 20:
        process = start_extraction(path, seconds=0.05)
        while process.is_alive() and complete(settings).keys() == before.keys() and kills:
            time.sleep(0.002)  # start-up is over once a shard is there
        time.sleep(moments.uniform(0, 0.2 if kills else 1))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run ended before it was killed 20 times"
        kills += 1
        after = complete(settings)
        assert {name: after[name] for name in before} == before
        before = after
    assert 0 < len(before) < 60
    run_extraction(settings, open_forward=open_stub)
    assert {name: complete(settings)[name] for name in before} == before
    assert find_damage(settings) == []
    for a, b in zip(read_all(settings), whole, strict=True):
        np.testing.assert_array_equal(a, b)
    assert list((settings.folder / "features").rglob("*.partial")) == []


def test_two_processes_on_one_folder_the_second_names_the_first(experiment):
    path = experiment()
    settings = read_settings(path, ExtractSettings)
    process = start_extraction(path, seconds=2)
    try:
        lock = settings.folder / "features" / ".lock"
        while not lock.exists() or not lock.read_text():
            time.sleep(0.01)
        with pytest.raises(LockError, match=f"in use by process {process.pid} on "):
            run_extraction(settings, open_forward=open_stub)
    finally:
        process.kill()
        process.join()
    assert run_extraction(settings, open_forward=open_stub).done == [
        "mobilenetv2"
    ]  # its lock went with it


@pytest.mark.slow
def test_workers_end_with_a_killed_run(experiment):
    path = experiment(n=60, replace={'weights = "random:0"': 'weights = "random:0"\nworkers = 2'})
    process = start_extraction(path, seconds=0.2)
    while not complete(read_settings(path, ExtractSettings)):
        time.sleep(0.01)
    workers = [
        p
        for p in psutil.Process(process.pid).children(recursive=True)
        if "popen_loky" in " ".join(p.cmdline())
    ]
    process.kill()
    process.join()
    assert len(workers) == 2
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    import errno

    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path) as note:
        assert "has no locks (No locks available)" in note


@pytest.fixture
def small_disk(tmp_path):
    """A real disk of one MiB."""
    folder = tmp_path / "out"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_one_clear_error_and_after_room_is_made_the_run_goes_on(
    experiment, small_disk
):
    settings = read_settings(experiment(n=40), ExtractSettings)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * 700_000)
    with pytest.raises(
        ExtractionError, match=r"writing failed:.*No space left on device.*make room"
    ):
        run_extraction(settings, open_forward=open_stub)
    kept = complete(settings)
    assert 0 < len(kept) < 8
    assert list((settings.folder / "features").rglob("*.partial")) == []
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    assert run_extraction(settings, open_forward=open_stub).done == ["mobilenetv2"]
    assert {name: complete(settings)[name] for name in kept} == kept
    assert find_damage(settings) == []


def test_a_limit_on_the_size_of_files_is_one_clear_error(experiment):
    settings = read_settings(
        experiment(n=2000, replace={"shard = 5": "shard = 2000"}), ExtractSettings
    )
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    said = {
        20_000: r"no memory for.*File too large.*ulimit.*are kept",
        400_000: r"writing failed:.*File too large.*make room",
    }
    try:
        for limit, text in said.items():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
            with pytest.raises(ExtractionError, match=text):
                run_extraction(settings, open_forward=open_stub)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert run_extraction(settings, open_forward=open_stub).n_tiles == 2000
