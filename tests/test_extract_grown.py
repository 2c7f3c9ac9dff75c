"""The table grew, shrank or was sorted, pictures changed: only what is new is embedded, and the
result is that of a fresh run.
"""

from __future__ import annotations

import json
import os
import signal
import time
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from made_processes import start_extraction
from stub_network import StubNetwork, open_stub

from extract.checks.plan import plan_extraction
from extract.errors import EmbeddingsError, ExtractionError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.checksums import hash_embeddings
from extract.store.embeddings import Embeddings, ShardReader
from extract.store.recipes import check_recipes
from extract.store.verify import find_damage

pytestmark = pytest.mark.usefixtures("decoders_here")
N = 23


def complete(settings):
    return {p.name: p.stat().st_mtime_ns for p in (settings.folder / "features").rglob("part-*.h5")}


COLUMNS = ("id", "status", "reason", "pictures", "stamp")


class Counting(StubNetwork):
    """Counts the pictures that go through it, over all that were opened."""

    n_pictures = 0
    n_opened = 0

    def submit(self, pictures):
        Counting.n_pictures += len(pictures)
        return super().submit(pictures)


def open_counting(settings, backbone, probe, **_):
    Counting.n_opened += 1
    return Counting(settings.extract.cuts_of(backbone), 0.0)


def extract(path: Path, **said):
    """Run, and return the summary and how many pictures went through the network."""
    Counting.n_pictures = Counting.n_opened = 0
    settings = read_settings(path, ExtractSettings)
    summary = run_extraction(settings, open_forward=open_counting, **said)
    assert find_damage(settings) == []
    assert list(settings.folder.rglob("earlier-*")) == []
    return summary, Counting.n_pictures


def read_everything(path: Path):
    """Return every dataset of every shard and of the virtual file, as bytes."""
    settings = read_settings(path, ExtractSettings)
    features = settings.folder / "features"
    found = {}
    for file_path in sorted(features.rglob("*.h5")):
        with h5py.File(file_path) as file:
            names = [name for name in COLUMNS if name in file]
            names += [f"cuts/{name}" for name in file["cuts"]]
            for name in names:
                found[f"{file_path.relative_to(features)} {name}"] = repr(file[name][:].tolist())
            found[f"{file_path.name} tiles"] = file.attrs["tiles_sha256"]
    return found


def check_equals_fresh(path: Path) -> None:
    """Hold what is there against a run that starts anew, bit for bit."""
    grown = read_everything(path)
    extract(path, fresh=True)
    assert Counting.n_pictures > 0
    assert grown == read_everything(path)


def change_table(path: Path, change) -> None:
    table = path.parent / "tiles.csv"
    change(pd.read_csv(table, dtype=str)).to_csv(table, index=False)


def draw(path: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path.parent / "tiles" / f"{name}.png"), picture)


def add(table: pd.DataFrame, place: int) -> pd.DataFrame:
    row = table.iloc[[0]].assign(id="900")
    return pd.concat([table[:place], row, table[place:]])


CHANGES = {
    "in front": (lambda table: add(table, 0), 1),
    "removed at the end": (lambda table: table[:18], 0),
    "sorted anew": (lambda table: table.sample(frac=1, random_state=1), 0),
    "added and removed": (lambda table: add(table.drop(index=[3]), 9), 1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_table_embeds_new_tiles_alone_and_equals_a_fresh_run(experiment, name):
    change, n_new = CHANGES[name]
    path = experiment(n=N)
    draw(path, "900", seed=9)
    (path.parent / "tiles" / "5.png").write_text("no picture")
    assert extract(path)[1] == N
    change_table(path, change)
    summary, n_pictures = extract(path)
    assert n_pictures == n_new
    assert (Counting.n_opened > 0) == (n_new > 0)
    assert summary.n_rejected == 1
    check_equals_fresh(path)


@pytest.mark.parametrize("name", ["in front", "sorted anew"])
def test_each_chunk_of_earlier_rows_is_read_once(experiment, monkeypatch, name):
    monkeypatch.setattr("extract.store.shards._CHUNK_BYTES", 2 * 48 * 2)  # two rows a chunk
    path = experiment(n=N)
    draw(path, "900", seed=9)
    extract(path)
    n_chunks = 2 * (4 * 3 + 2)
    read = []
    read_rows = ShardReader.read

    def note(reader, cut, start, stop):
        read.append((reader.path.name, cut, start))
        return read_rows(reader, cut, start, stop)

    monkeypatch.setattr(ShardReader, "read", note)
    change_table(path, CHANGES[name][0])
    run_extraction(read_settings(path, ExtractSettings), open_forward=open_counting)
    assert len(set(read)) == len(read) == n_chunks


def test_shards_whose_rows_are_the_same_are_not_written_again(experiment):
    path = experiment(n=N)
    extract(path)
    settings = read_settings(path, ExtractSettings)
    before = complete(settings)
    draw(path, "900", seed=9)
    change_table(path, lambda table: add(table, N))
    extract(path)
    after = complete(settings)
    changed = [name for name in after if after[name] != before.get(name)]
    assert changed == ["part-00004.h5"]


def test_a_replaced_picture_is_noticed_and_one_that_was_only_touched_is_not_embedded(experiment):
    path = experiment(n=N)
    extract(path)
    draw(path, "7", seed=77)
    os.utime(path.parent / "tiles" / "2.png", ns=(1, 1))
    assert extract(path)[1] == 1
    assert extract(path)[0].done == []
    check_equals_fresh(path)


def test_a_picture_of_equal_size_and_time_is_noticed_too(experiment):
    path = experiment(n=N, replace={"{id}.png": "{id}.bmp"})
    for i in range(N):
        picture = cv2.imread(str(path.parent / "tiles" / f"{i}.png"))
        cv2.imwrite(str(path.parent / "tiles" / f"{i}.bmp"), picture)
    extract(path)
    one = path.parent / "tiles" / "4.bmp"
    then = one.stat()
    one.write_bytes((path.parent / "tiles" / "5.bmp").read_bytes())
    os.utime(one, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert one.stat().st_size == then.st_size
    assert extract(path)[1] == 1


def test_a_missing_picture_that_comes_is_taken_in_and_one_that_goes_is_kept(experiment):
    path = experiment(n=N)
    tiles = path.parent / "tiles"
    (tiles / "6.png").rename(path.parent / "6.png")
    assert extract(path)[0].n_rejected == 1
    (path.parent / "6.png").rename(tiles / "6.png")
    (tiles / "9.png").unlink()
    summary, n_pictures = extract(path)
    assert (summary.n_rejected, n_pictures) == (0, 1)
    assert "1 pictures are no longer there; what was made of them is kept." in summary.notes
    again, n_pictures = extract(path)
    assert (again.done, n_pictures) == ([], 0)


def test_retry_looks_again_at_rejected_pictures_that_did_not_change(experiment, monkeypatch):
    from extract.pictures import image_folder

    path = experiment(n=N)
    read = image_folder.ImageFolder.read
    assert extract(path)[0].n_rejected == 0
    with h5py.File(next(path.parent.rglob("part-00001.h5")), "r+") as file:  # as if it had been
        file["status"][2] = 2
        file["reason"][2] = "file cannot be read: Input/output error"
        for name in ("status", "reason"):
            values = file[name].asstr()[:] if name == "reason" else file[name][:]
            from extract.store.checksums import hash_rows

            file[name].attrs["sha256"] = hash_rows(values)
        file.attrs["sha256"] = hash_embeddings(file)
    assert read is image_folder.ImageFolder.read
    summary, n_pictures = extract(path, retry=True)
    assert (summary.n_rejected, n_pictures) == (0, 1)
    check_equals_fresh(path)


ONE = '"mobilenetv2/block_1_expand_relu:avg"'
TWO = f'{ONE}, "mobilenetv2/block_3_expand_relu:map"'


def test_a_further_cut_of_a_backbone_is_embedded_and_that_of_others_stays(experiment):
    cuts = f'{ONE}, "vgg16/block1_pool:avg"'
    path = experiment(n=N, replace={TWO: cuts})
    assert extract(path)[1] == 2 * N
    path.write_text(path.read_text().replace(cuts, f'{TWO}, "vgg16/block1_pool:avg"'))
    assert plan_new(path) == {"mobilenetv2": N, "vgg16": 0}
    summary, n_pictures = extract(path)
    assert (summary.done, n_pictures) == (["mobilenetv2"], N)
    check_equals_fresh(path)


def test_a_further_backbone_leaves_the_first_as_it_is(experiment):
    path = experiment(n=N, replace={TWO: ONE})
    extract(path)
    path.write_text(path.read_text().replace(ONE, f'{ONE}, "vgg16/block1_pool:avg"'))
    summary, n_pictures = extract(path)
    assert (summary.done, n_pictures) == (["vgg16"], N)
    check_equals_fresh(path)


def test_a_cut_that_is_no_longer_asked_for_is_not_thrown_away(experiment):
    path = experiment(n=N)
    extract(path)
    path.write_text(path.read_text().replace(TWO, ONE))
    with pytest.raises(ExtractionError, match=r"cuts was \[.*map.*Restore that setting"):
        extract(path)


def plan_new(path: Path) -> dict[str, int]:
    settings = read_settings(path, ExtractSettings)
    plan = plan_extraction(settings, seconds=0.1, open_forward=open_counting)
    return {name: part.missing_tiles for name, part in plan.backbones.items()}


def test_shards_of_another_length_are_made_without_a_network(experiment):
    path = experiment(n=N)
    extract(path)
    path.write_text(path.read_text().replace("shard = 5", "shard = 8"))
    assert extract(path)[1] == 0
    assert Counting.n_opened == 0
    check_equals_fresh(path)


def test_whole_numbers_that_become_texts_are_the_same_tiles(experiment):
    path = experiment(n=N)
    extract(path)
    draw(path, "x1", seed=9)
    change_table(path, lambda table: pd.concat([table, table.iloc[[0]].assign(id="x1")]))
    assert extract(path)[1] == 1
    check_equals_fresh(path)


def test_shards_of_the_second_schema_are_used_again_by_their_pixels(experiment):
    path = experiment(n=N)
    extract(path)
    settings = read_settings(path, ExtractSettings)
    features = settings.folder / "features"
    table_sha256 = ""
    with h5py.File(features / "mobilenetv2.h5") as file:
        table_sha256 = file.attrs["tiles_sha256"]
    for shard in features.rglob("part-*.h5"):
        with h5py.File(shard, "r+") as file:  # as version 2 wrote it
            del file["stamp"]
            for data in file["cuts"].values():
                del data.attrs["xxh3"]
            recipe = json.loads(file.attrs["recipe"]) | {"tiles": table_sha256, "shard": 5}
            file.attrs["recipe"] = json.dumps(recipe)
            file.attrs["schema_version"] = 2
            file.attrs["sha256"] = hash_embeddings(file)
    assert extract(path)[0].done == []
    draw(path, "900", seed=9)
    change_table(path, lambda table: add(table, 7))
    assert extract(path)[1] == 1
    check_equals_fresh(path)


def test_pictures_of_an_archive_are_known_by_their_checksums(experiment):
    path = experiment(n=N, replace={'images = "tiles"': 'images = "tiles.zip"'})

    def pack() -> None:
        with zipfile.ZipFile(path.parent / "tiles.zip", "w") as archive:
            for picture in sorted((path.parent / "tiles").iterdir()):
                archive.write(picture, picture.name)

    pack()
    extract(path)
    draw(path, "900", seed=9)
    pack()
    change_table(path, lambda table: add(table, 7))
    assert extract(path)[1] == 1
    check_equals_fresh(path)


def test_a_damaged_row_is_not_used_again(experiment):
    path = experiment(n=N)
    extract(path)
    shard = next(path.parent.rglob("part-00002.h5"))
    with h5py.File(shard) as file:
        offset = file["cuts/block_1_expand_relu:avg"].id.get_chunk_info(0).byte_offset
    content = bytearray(shard.read_bytes())
    content[offset + 1] ^= 0x80
    shard.write_bytes(content)
    change_table(path, lambda table: add(table, 7))
    with pytest.raises(EmbeddingsError, match=r"damaged: cuts/block_1_expand_relu:avg"):
        extract(path)


def test_workers_use_earlier_rows_too(experiment):
    path = experiment(n=N, replace={"shard = 5": "shard = 5\nworkers = 2"})
    settings = read_settings(path, ExtractSettings)
    run_extraction(settings, open_forward=open_stub)
    draw(path, "900", seed=9)
    change_table(path, lambda table: add(table, 7))
    stages = run_extraction(settings, open_forward=open_stub).stages["mobilenetv2"]
    assert (stages["tiles"], stages["kept"]) == (1, 18)
    assert find_damage(settings) == []


def test_a_plan_counts_what_is_new_alone_and_moves_nothing(experiment):
    path = experiment(n=N)
    extract(path)
    draw(path, "900", seed=9)
    change_table(path, lambda table: add(table, 7))
    settings = read_settings(path, ExtractSettings)
    before = complete(settings)
    plan = plan_extraction(settings, seconds=0.1, open_forward=open_counting)
    assert plan.backbones["mobilenetv2"].missing_tiles == 1
    assert complete(settings) == before


def test_an_update_that_was_killed_goes_on_and_equals_a_fresh_run(experiment):
    path = experiment(n=60)
    extract(path)
    settings = read_settings(path, ExtractSettings)
    for i in range(0, 60, 3):
        draw(path, str(i), seed=100 + i)
    draw(path, "900", seed=9)
    change_table(path, lambda table: add(table, 0))
    process = start_extraction(path, seconds=0.2)
    folder = settings.folder / "features"
    while not new_rows_beside_all_earlier(folder, shards=12) and process.is_alive():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(folder.rglob("earlier-*.h5"))
    with pytest.raises(EmbeddingsError, match="Run `make features`"):
        Embeddings(folder / "mobilenetv2.h5")
    assert 0 < extract(path)[1] < 21
    check_equals_fresh(path)


def new_rows_beside_all_earlier(folder: Path, shards: int) -> bool:
    """Return whether all earlier shards were set aside and the first new one is written."""
    earlier = list(folder.rglob("earlier-*.h5"))
    return len(earlier) == shards and any(folder.rglob("part-*.h5"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("size = 32", "size = 48", "size was 32, now 48"),
        ('precision = "float32"', 'precision = "bfloat16"', "precision was 'float32'"),
        ('runtime = "keras"', 'runtime = "ncnn"', "runtime was 'keras', now 'ncnn'"),
        ("batch = 4", 'batch = 4\ndtype = "float32"', "dtype was 'float16', now 'float32'"),
    ],
)
def test_a_changed_setting_is_noticed_by_who_reads_the_features(made_once, old, new, said):
    text = made_once.read_text()
    check_recipes(read_settings(made_once, ExtractSettings))
    other = made_once.with_name("other.toml")
    assert old in text
    other.write_text(text.replace(old, new))
    with pytest.raises(EmbeddingsError, match=f"made with other settings: {said}.*Restore"):
        check_recipes(read_settings(other, ExtractSettings))


@pytest.fixture
def made_once(experiment):
    path = experiment(n=3)
    extract(path)
    return path
