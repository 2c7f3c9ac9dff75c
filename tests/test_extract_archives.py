from __future__ import annotations

import io
import os
import tarfile
import unicodedata
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.errors import ImageSourceError, RejectedTile
from extract.pictures.archives import open_images
from extract.settings import ExtractSettings, TilesSection, read_settings
from extract.tables.tile_reader import TileReader
from extract.tables.tile_table import read_tiles
from extract.timing.clock import Clock

FILES = {"a.png": b"first", "deep/b.png": b"second" * 999, "deep/er/c.png": bytes(range(256)) * 40}


def images(path, **said):
    return open_images(TilesSection(table=Path("t.csv"), area="area", images=path, **said))


def read(opened, name):
    return opened.read(opened.find(name))


def write(path, files=FILES, stored=False):
    """Make a folder, a .tar or a .zip of the same files."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(
            path, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        ) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as archive:
            for name, data in files.items():
                add(archive, name, data)
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return path


def add(archive, name, data=b"", **said):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in said.items():
        setattr(info, key, value)
    archive.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize("name", ["tiles", "tiles.tar", "tiles.zip"])
def test_a_folder_a_tar_and_a_zip_read_the_same_from_many_threads(tmp_path, name):
    opened = images(write(tmp_path / name))
    assert sorted(opened.names()) == sorted(FILES)
    with ThreadPoolExecutor(8) as pool:
        names = list(FILES) * 200
        assert list(pool.map(partial(read, opened), names)) == [FILES[n] for n in names]


@pytest.mark.parametrize("name", ["tiles", "tiles.tar", "tiles.zip"])
def test_missing_and_empty_files_and_files_too_large_for_any_picture_are_rejected(tmp_path, name):
    opened = images(
        write(tmp_path / name, {"empty.png": b"", "large.png": bytes((1 << 20) + 17)}), max_pixels=1
    )
    for file, reason in (
        ("none.png", "missing"),
        ("empty.png", "empty"),
        ("large.png", "larger than any picture"),
    ):
        with pytest.raises(RejectedTile, match=reason):
            read(opened, file)


def test_a_stored_zip_and_a_tar_with_a_leading_dot_are_read(tmp_path):
    assert read(images(write(tmp_path / "s.zip", stored=True)), "deep/b.png") == FILES["deep/b.png"]
    assert read(images(write(tmp_path / "d.tar", {"./a.png": b"x"})), "a.png") == b"x"


def test_an_archive_that_changed_is_read_anew(tmp_path):
    path = write(tmp_path / "tiles.tar", {"a.png": b"old"})
    assert read(images(path), "a.png") == b"old"
    write(path, {"b.png": b"newer", "c.png": bytes(20_000)})
    assert sorted(images(path).names()) == ["b.png", "c.png"]


def test_members_that_climb_out_or_are_links_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        add(archive, "../secret", b"x")
        add(archive, "/etc/passwd", b"x")
        add(archive, "link.png", type=tarfile.SYMTYPE, linkname="../secret")
        add(archive, "hard.png", type=tarfile.LNKTYPE, linkname="/etc/passwd")
        add(archive, "pipe.png", type=tarfile.FIFOTYPE)
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../secret", b"x")
        archive.writestr(link, "../secret")
    for name in ("evil.tar", "evil.zip"):
        opened = images(tmp_path / name)
        assert list(opened.names()) == []
        with pytest.raises(RejectedTile, match="climbs out"):
            read(opened, "../secret")
        with pytest.raises(RejectedTile, match="not followed"):
            read(opened, "link.png")
    with pytest.raises(RejectedTile, match="special file"):
        read(images(tmp_path / "evil.tar"), "pipe.png")


@pytest.mark.parametrize("stored", [True, False])
def test_a_damaged_member_of_a_zip_is_rejected_and_the_others_are_read(tmp_path, stored):
    path = write(tmp_path / "tiles.zip", stored=stored)
    data = bytearray(path.read_bytes())
    data[data.index(b"deep/b.png") + 14] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(RejectedTile, match="damaged in the archive"):
        read(images(path), "deep/b.png")
    assert read(images(path), "a.png") == b"first"


def test_a_zip_that_lies_about_its_sizes_costs_no_more_than_it_says(tmp_path):
    path = write(tmp_path / "bomb.zip", {"bomb.png": bytes(50_000_000)})
    data = path.read_bytes().replace(
        (50_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    )
    path.write_bytes(data)
    with pytest.raises(RejectedTile, match="damaged in the archive"):
        read(images(path), "bomb.png")


@pytest.mark.parametrize(("mode", "magic"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_tar_compressed_as_a_whole_is_refused_with_the_remedy(tmp_path, mode, magic):
    with tarfile.open(tmp_path / "tiles.tar", mode) as archive:
        add(archive, "a.png", b"x")
    with pytest.raises(ImageSourceError, match=f"compressed as a whole by {magic}.*plain .tar"):
        images(tmp_path / "tiles.tar")


@pytest.mark.parametrize("cut", [100, 700, 4000])
@pytest.mark.parametrize("name", ["tiles.tar", "tiles.zip"])
def test_an_archive_cut_off_is_refused(tmp_path, name, cut):
    path = write(tmp_path / name, stored=True)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ImageSourceError, match="make the archive anew"):
        images(path)


def test_what_is_no_archive_and_what_is_not_there_say_so(tmp_path):
    (tmp_path / "tiles.tar").write_text("hello" * 500)
    (tmp_path / "empty.tar").touch()
    for name, message in (
        ("tiles.tar", "expected a folder, a .tar or a .zip"),
        ("empty.tar", "expected a folder"),
        ("none", "no such folder or archive"),
    ):
        with pytest.raises(ImageSourceError, match=message):
            images(tmp_path / name)


def test_links_out_of_the_folder_are_rejected_unless_allowed(tmp_path):
    write(tmp_path / "tiles")
    write(tmp_path / "outside", {"x.png": b"secret"})
    (tmp_path / "tiles" / "out.png").symlink_to(tmp_path / "outside" / "x.png")
    (tmp_path / "tiles" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "tiles" / "in.png").symlink_to(tmp_path / "tiles" / "a.png")
    (tmp_path / "tiles" / "loop.png").symlink_to(tmp_path / "tiles" / "loop.png")
    opened = images(tmp_path / "tiles")
    for name in ("out.png", "folder/x.png"):
        with pytest.raises(RejectedTile, match=r"link out of the images folder.*follow_links"):
            read(opened, name)
        assert read(images(tmp_path / "tiles", follow_links=True), name) == b"secret"
    assert read(opened, "in.png") == b"first"
    with pytest.raises(RejectedTile, match="cannot be read"):
        read(opened, "loop.png")


def test_the_images_folder_itself_may_be_a_link_and_linked_circles_end(tmp_path):
    write(tmp_path / "real")
    (tmp_path / "tiles").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "deep" / "up").symlink_to(tmp_path / "real")
    assert read(images(tmp_path / "tiles"), "deep/b.png") == FILES["deep/b.png"]
    assert sorted(images(tmp_path / "tiles", follow_links=True).names()) == sorted(FILES)


def test_pipes_folders_and_names_that_cannot_be_are_rejected_and_nothing_hangs(tmp_path):
    (tmp_path / "tiles" / "folder.png").mkdir(parents=True)
    os.mkfifo(tmp_path / "tiles" / "pipe.png")
    opened = images(tmp_path / "tiles")
    for name in ("folder.png", "pipe.png", "nul\0.png", "long" * 999):
        with pytest.raises(RejectedTile, match=r"not a regular file|cannot be read"):
            read(opened, name)


@pytest.mark.parametrize("name", ["tiles.tar", "tiles.zip"])
def test_batches_from_an_archive_equal_those_from_the_folder(experiment, name):
    path = experiment()
    folder = path.parent / "tiles"
    (folder / "3.png").write_text("no picture")
    cv2.imwrite(str(folder / "4.png"), np.full((32, 32, 4), (1, 2, 3, 0), np.uint8))
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    write(path.parent / name, files)
    batches = []
    for images_ in ("tiles", name):
        text = path.read_text()
        path.write_text(text.replace('images = "tiles"', f'images = "{images_}"'))
        settings = read_settings(path, ExtractSettings)
        batches.append(TileReader(settings, read_tiles(settings)).read(range(12), Clock()))
        path.write_text(text)
    np.testing.assert_array_equal(batches[0].pictures, batches[1].pictures)
    np.testing.assert_array_equal(batches[0].facts, batches[1].facts)
    assert batches[0].reasons == batches[1].reasons == ["", "", "", "not an image"] + [""] * 8
    assert batches[0].facts["nodata"].tolist() == [0.0] * 4 + [1.0] + [0.0] * 7


def spelled(name):
    return unicodedata.normalize("NFD", name)


@pytest.mark.parametrize("kind", ["tiles", "tiles.tar", "tiles.zip"])
@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (spelled("Zürich.png"), "Zürich.png"),
        ("Zürich.png", spelled("Zürich.png")),
        ("deep/b.png", "./deep/./b.png"),
        ("deep/b.png", "deep\\b.png"),
    ],
)
def test_another_spelling_of_a_name_finds_the_picture(tmp_path, kind, stored, asked):
    opened = images(write(tmp_path / kind, {stored: b"x"}))
    assert read(opened, asked) == b"x"


def test_backslashes_in_a_zip_part_folders(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        info = zipfile.ZipInfo("deep/b.png")
        info.filename = "deep\\b.png"
        archive.writestr(info, b"x")
        info = zipfile.ZipInfo("up")
        info.filename = "..\\secret"
        archive.writestr(info, b"x")
    opened = images(tmp_path / "net.zip")
    assert read(opened, "deep/b.png") == b"x"
    with pytest.raises(RejectedTile, match="climbs out"):
        read(opened, "../secret")


@pytest.mark.parametrize("kind", ["tiles", "tiles.tar", "tiles.zip"])
@pytest.mark.parametrize("stored", ["LIDAR_1.PNG", "tiles/LIDAR_1.png"])
def test_a_name_of_another_case_or_folder_is_suggested(tmp_path, kind, stored):
    opened = images(write(tmp_path / kind, {stored: b"x"}))
    with pytest.raises(RejectedTile, match=f"^file missing; did you mean '{stored}'"):
        read(opened, "LIDAR_1.png")
    with pytest.raises(RejectedTile, match=r"^file missing$"):
        read(opened, "LIDAR_2.png")


@pytest.mark.parametrize("kind", ["tiles", "tiles.tar", "tiles.zip"])
def test_a_backslash_leads_nowhere_outside(tmp_path, kind):
    (tmp_path / "secret").write_bytes(b"secret")
    opened = images(write(tmp_path / kind), follow_links=True)
    with pytest.raises(RejectedTile, match="file missing"):
        read(opened, "..\\secret")


@pytest.mark.parametrize("kind", ["tiles", "tiles.tar", "tiles.zip"])
def test_what_macos_writes_beside_files_is_no_picture(tmp_path, kind):
    doubles = {"__MACOSX/deep/._b.png": b"x", "._a.png": b"x", "deep/._b.png": b"x"}
    opened = images(write(tmp_path / kind, {**FILES, **doubles}))
    assert sorted(opened.names()) == sorted(FILES)
