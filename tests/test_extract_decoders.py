"""Test the processes that decode: equal pictures, memory given back, and every kind of end."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
import pytest
from made_processes import start_extraction
from stub_network import open_stub

from extract.errors import DecoderError, ExtractionError, ImageSourceError, RejectedTile
from extract.pictures import decoder_pool as module
from extract.pictures.archives import open_images
from extract.pictures.decoder_pool import DecoderPool
from extract.run import run_extraction
from extract.settings import ExtractSettings, TilesSection, read_settings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import read_tiles
from extract.timing.clock import Clock
from tests.test_extract_archives import write


@pytest.fixture
def reader(experiment):
    path = experiment()
    (path.parent / "tiles" / "3.png").write_text("no picture")
    settings = read_settings(path, ExtractSettings)
    return TileReader(settings, read_tiles(settings))


@pytest.fixture
def decoders(reader):
    opened = DecoderPool(reader.source, processes=2, batch=4, n_batches=3)
    opened.wait_until_ready()
    yield opened
    opened.close()


def processes():
    """Return the processes that decode for this one, and that live."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended
            if "extract.pictures.decoder_pool" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_pictures_equal_those_read_in_this_process_also_in_memory_that_was_used_before(
    reader, decoders
):
    for rows in (range(4), range(4, 8), range(8, 10), range(2, 6), range(1)):
        decoding = decoders.submit(reader.find(rows))
        batch, clock = decoding.done.result()
        expected = reader.read(rows, Clock())
        np.testing.assert_array_equal(batch.pictures, expected.pictures)
        np.testing.assert_array_equal(batch.facts, expected.facts)
        assert batch.reasons == expected.reasons
        assert clock.seconds["decode"] > 0
        decoders.release(decoding)


def test_batches_that_are_not_released_keep_their_pictures_and_no_more_are_taken(reader, decoders):
    taken = [decoders.submit(reader.find(range(4 * i, 4 * i + 4))) for i in range(3)]
    with pytest.raises(IndexError):
        decoders.submit(reader.find(range(4)))
    for i, decoding in enumerate(taken):
        np.testing.assert_array_equal(
            decoding.done.result()[0].pictures,
            reader.read(range(4 * i, 4 * i + 4), Clock()).pictures,
        )
    decoders.reset()
    assert len([decoders.submit(reader.find(range(4))) for _ in range(3)]) == 3


def test_processes_load_neither_networks_nor_tables():
    text = (
        "import sys, extract.pictures.decoder_pool, extract.pictures.archives; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"keras", "tensorflow", "pandas", "pydantic", "h5py"} & set(loaded)


def test_an_archive_is_sent_without_its_index(experiment):
    path = experiment()
    files = {f"{i}.png": (path.parent / "tiles" / f"{i}.png").read_bytes() for i in range(12)}
    write(path.parent / "tiles.zip", files | {f"{i}.txt": b"" for i in range(5000)})
    path.write_text(path.read_text().replace('images = "tiles"', 'images = "tiles.zip"'))
    settings = read_settings(path, ExtractSettings)
    images = open_images(settings.tiles)
    sent = pickle.dumps(images)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert received.read(images.find("7.png")) == files["7.png"]
    with pytest.raises(RejectedTile, match="file missing"):
        received.read(images.find("gone.png"))
    assert run_extraction(settings, open_forward=open_stub).n_rejected == 0


def test_an_archive_that_is_written_to_during_a_run_is_refused(experiment):
    path = experiment()
    pictures = {p.name: p.read_bytes() for p in (path.parent / "tiles").iterdir()}
    archive = write(path.parent / "tiles.tar", pictures)
    path.write_text(path.read_text().replace('images = "tiles"', 'images = "tiles.tar"'))
    settings = read_settings(path, ExtractSettings)

    def change(*args, **options):
        write(archive, dict(reversed(pictures.items())))
        return open_stub(*args, **options)

    with pytest.raises(ImageSourceError, match="archive has changed"):
        run_extraction(settings, open_forward=change)
    assert run_extraction(settings, open_forward=open_stub).n_rejected == 0


def test_an_archive_that_was_replaced_before_a_process_opened_it_is_refused_there(tmp_path):
    archive = write(tmp_path / "tiles.tar", {"a.png": b"first", "b.png": b"other"})
    images = open_images(TilesSection(table=tmp_path / "t.csv", area="area", images=archive))
    place = images.find("a.png")
    sent = pickle.dumps(images)
    write(tmp_path / "new.tar", {"b.png": b"other", "a.png": b"first"}).replace(archive)
    with pytest.raises(ImageSourceError, match="archive has changed"):
        pickle.loads(sent).read(place)
    assert images.read(place) == b"first"  # what was opened before stays what it was


def test_closing_ends_the_processes(reader):
    opened = DecoderPool(reader.source, processes=2, batch=4, n_batches=3)
    opened.wait_until_ready()
    assert len(processes()) == 2
    opened.submit(reader.find(range(4))).done.result()
    assert 5e6 < opened.count_bytes() < 2e8
    opened.close()
    assert processes() == []
    assert opened.count_bytes() == 0


def test_a_run_ends_its_processes_also_when_it_fails(experiment):
    path = experiment()
    run_extraction(read_settings(path, ExtractSettings), open_forward=open_stub)
    assert processes() == []

    def fail(*args, **options):
        raise ValueError("no such network")

    with pytest.raises(ValueError, match="no such network"):
        run_extraction(read_settings(path, ExtractSettings), fresh=True, open_forward=fail)
    assert processes() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_is_killed_is_one_clear_error_and_the_run_goes_on_afterwards(
    experiment, monkeypatch, number
):
    settings = read_settings(experiment(n=40), ExtractSettings)
    monkeypatch.setenv("STUB_SECONDS", "0.05")

    def kill(done, todo, rejected):
        for process in processes():
            process.send_signal(number)

    with pytest.raises(ExtractionError, match=rf"ended by {number.name}.*Complete shards are kept"):
        run_extraction(settings, open_forward=open_stub, on_tiles=kill)
    assert list(settings.folder.rglob("*.partial")) == []
    monkeypatch.setenv("STUB_SECONDS", "0")
    assert run_extraction(settings, open_forward=open_stub).n_rejected == 0


def test_a_process_that_cannot_start_says_why(experiment, monkeypatch):
    monkeypatch.setattr(module, "_COMMAND", ("-c", "raise ImportError('libGL.so.1 is not there')"))
    with pytest.raises(
        ExtractionError,
        match=r"ended with code 1: ImportError: libGL.so.1 is not there.*shards are kept",
    ):
        run_extraction(read_settings(experiment(), ExtractSettings), open_forward=open_stub)


def test_nobody_waits_for_a_process_that_is_gone(reader):
    opened = DecoderPool(reader.source, processes=2, batch=4, n_batches=4)
    opened.wait_until_ready()
    for process in opened._processes:
        process._popen.kill()
        process._popen.wait()
    for _ in range(3):
        with pytest.raises(DecoderError, match="ended by SIGKILL") as raised:
            opened.submit(reader.find(range(4))).done.result()
        assert not raised.value.is_at_work  # whoever asks next is not to blame
    opened.close()


def test_a_process_that_ends_at_its_work_names_the_rows(experiment, monkeypatch):
    settings = read_settings(experiment(), ExtractSettings)
    submit = DecoderPool.submit

    def kill_at_work(self, places):
        for process in processes():
            process.suspend()
        decoding = submit(self, places)
        time.sleep(0.2)  # it has been asked
        for process in processes():
            process.kill()
        return decoding

    monkeypatch.setattr(DecoderPool, "submit", kill_at_work)
    with pytest.raises(
        ExtractionError,
        match=r"SIGKILL, at one of the pictures of rows 1 to 4 of the table.*take its row out",
    ):
        run_extraction(settings, open_forward=open_stub)


def test_what_a_process_runs_into_is_raised_here(reader, decoders):
    with pytest.raises(TypeError):
        decoders.submit([b"no", 5]).done.result()
    assert decoders.submit(reader.find(range(4))).done.result()[0].reasons == [
        "",
        "",
        "",
        "not an image",
    ]


def test_processes_end_with_a_run_that_is_killed(experiment):
    path = experiment(n=40)
    run = start_extraction(path, seconds=5)
    while not (children := psutil.Process(run.pid).children()):
        time.sleep(0.05)
    run.kill()
    run.join()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert gone
    assert alive == []
