"""Flipped bits and kills: no command shows other numbers with exit code 0."""

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from made_experiment import change
from made_processes import start_fork
from typer.testing import CliRunner

from extract.errors import EmbeddingsError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings
from models.cli import app as models_app
from models.evaluation.current import open_current
from models.explaining.explain import ExplainRequest, explain_targets
from models.explaining.explanations import read_explanations
from models.fit import fit_all
from models.settings import FitSettings
from reports.build import build_report
from reports.data.collect import collect
from reports.settings import ReportSettings

FLIPS = int(os.environ.get("ROOFLINE_FLIPS", "40"))
KILLS = int(os.environ.get("ROOFLINE_KILLS", "6"))
ENOUGH = 240.0  # seconds that nothing here takes
TEXT = """name = "x"
out = "out"
[tiles]
table = "t.csv"
images = "."
path = "{id}.png"
area = "area"
[targets]
columns = ["income"]
classes = ["kind"]
[extract]
cuts = ["pixels/8:avg", "pixels/8:flat"]
size = 32
[models]
names = ["mean", "ridge", "knn"]
splits = ["random", "area"]
folds = 3
keep = "all"
accept = ["labels-differ"]
"""
N = 48
READ_BY = {  # what reads the files of a folder, besides `scores` and the report
    "models": ("predict", "explain"),
    "predictions": ("predict",),
    "runs": ("explain",),
    "folds.parquet": ("explain", "predict"),
}
# rates and rejects of the extraction, and its shards, which have a test of their own
OTHERS = ("features", ".lock")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    rng = np.random.default_rng(0)
    area = np.arange(N) // 2
    light = np.repeat(rng.uniform(60, 200, N // 2), 2)
    for i in range(N):
        noise = rng.normal(0, 8, (32, 32, 3))
        picture = np.clip(light[i] + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    table = {"id": np.arange(N), "area": [f"e{a}" for a in area], "income": light / 10}
    table["kind"] = np.where(light > np.median(light), "bright", "dark")
    pd.DataFrame(table).to_csv(folder / "t.csv", index=False)
    path = folder / "s.toml"
    path.write_text(TEXT)
    run_extraction(read_settings(path, ExtractSettings))
    fit_all(read_settings(path, FitSettings))
    for command in ("predict", "explain"):
        code, said = call(path, command)
        assert code == 0, said
    return path


def call(path: Path, command: str, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(models_app, [command, "--config", str(path), *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def show_scores(path: Path) -> str | None:
    shown = ""
    for target in ("income", "kind"):
        code, said = call(path, "scores", "--target", target, "--csv")
        if code:
            return None
        shown += said
    return shown


def show_report(path: Path) -> str | None:
    """Return all that the page is made from, but for what the extraction says of itself."""
    settings = read_settings(path, ReportSettings)
    try:
        with open_current(settings):
            found = collect(settings)
    except (ValueError, RuntimeError):
        return None
    text = io.StringIO()
    for name in (
        "scores",
        "class_scores",
        "comparisons",
        "winners",
        "coverage",
        "tile_predictions",
        "runs",
        "curves",
    ):
        text.write(getattr(found, name).to_csv())
    text.write(repr((found.audit, found.missing_runs, found.galleries)))
    return text.getvalue()


def show_predict(path: Path) -> str | None:
    code, _ = call(path, "predict")
    if code:
        return None
    folder = change(path).folder / "predictions"
    return "".join(hash_tree(folder, ".csv", ".parquet"))


def show_explain(path: Path) -> str | None:
    code, _ = call(path, "explain", "--target", "income", "--model", "ridge")
    if code:
        return None
    folder = change(path).folder / "explain" / "income"
    return "".join(hash_tree(folder, ".png"))


def hash_tree(folder: Path, *endings: str) -> Iterator[str]:
    for file in sorted(folder.rglob("*")):
        if file.suffix in endings:
            yield f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()} "


SHOW: dict[str, Callable[[Path], str | None]] = {
    "scores": show_scores,
    "report": show_report,
    "predict": show_predict,
    "explain": show_explain,
}


@pytest.mark.slow
def test_no_command_gives_other_numbers_after_a_bit_was_flipped(path: Path) -> None:
    folder = change(path).folder
    # explanations first: what an explanation took stands on the page
    right = {name: show(path) for name, show in reversed(SHOW.items())}
    assert None not in right.values()
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not set(file.relative_to(folder).parts) & set(OTHERS)
    ]
    rng = np.random.default_rng(int(os.environ.get("ROOFLINE_SEED", "0")))
    # every file once, and then at random
    chosen = [*rng.permutation(len(files)), *rng.integers(len(files), size=FLIPS)][:FLIPS]
    wrong = []
    refused = 0
    for i in chosen:
        file = files[i]
        before = file.read_bytes()
        if not before:
            continue
        at = int(rng.integers(len(before)))
        bit = 1 << int(rng.integers(8))
        damaged = bytearray(before)
        damaged[at] ^= bit
        first = file.relative_to(folder).parts[0]
        kept = snapshot(folder / "explain", folder / "predictions")
        for name in ("scores", "report", *READ_BY.get(first, ())):
            file.write_bytes(damaged)
            shown = SHOW[name](path)
            refused += shown is None
            if shown is not None and shown != right[name]:
                wrong.append((name, str(file.relative_to(folder)), at, bit))
        restore(kept, folder / "explain", folder / "predictions")
        file.write_bytes(before)
    assert wrong == []
    assert refused > FLIPS / 2
    assert {name: show(path) for name, show in SHOW.items()} == right


def read_features(virtual: Path) -> list[bytes]:
    with Embeddings(virtual) as embeddings:
        seen = [embeddings.ids, embeddings.is_ok, embeddings.pictures]
        seen += [embeddings.read(cut).astype(np.float64) for cut in embeddings.cuts]
        return [np.ascontiguousarray(one).tobytes() for one in seen]


def choose_byte(content: bytes, rng: np.random.Generator) -> int:
    """Choose a byte outside the heap of texts: HDF5 reads for ever where a size in it is damaged."""
    start = content.find(b"GCOL")
    n_bytes = int.from_bytes(content[start + 8 : start + 16], "little")
    outside = np.delete(np.arange(len(content)), np.s_[start : start + n_bytes])
    return int(rng.choice(outside))


def test_no_reader_hands_out_other_embeddings_after_a_bit_was_flipped(path: Path) -> None:
    features = change(path).folder / "features"
    virtual = features / "pixels.h5"
    right = read_features(virtual)
    files = [virtual, *(features / "pixels").glob("*.h5")]
    rng = np.random.default_rng(int(os.environ.get("ROOFLINE_SEED", "0")))
    refused = 0
    for _ in range(FLIPS):
        file = files[rng.integers(len(files))]
        before = file.read_bytes()
        at = choose_byte(before, rng)
        bit = 1 << int(rng.integers(8))
        damaged = bytearray(before)
        damaged[at] ^= bit
        file.write_bytes(damaged)
        try:
            assert read_features(virtual) == right, (file.name, at, bit)
        except EmbeddingsError:
            refused += 1
        file.write_bytes(before)
    assert refused > FLIPS / 4
    assert read_features(virtual) == right


def snapshot(*folders: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for folder in folders for p in folder.rglob("*") if p.is_file()}


def restore(files: dict[Path, bytes], *folders: Path) -> None:
    for path in snapshot(*folders).keys() - files.keys():
        path.unlink()
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run_and_kill(work: Callable[..., None], path: Path, seconds: float) -> float:
    """Do something in a new process, and kill it after some seconds; return how long it ran."""
    start = time.perf_counter()
    process = start_fork(work, path)
    process.join(seconds)
    process.kill()
    process.join()
    assert seconds < ENOUGH or process.exitcode == 0
    return time.perf_counter() - start


def explain_income(path: Path) -> None:
    settings = read_settings(path, FitSettings)
    for _ in explain_targets(settings, ExplainRequest(model="ridge"), "income"):
        pass


def report(path: Path) -> None:
    build_report(read_settings(path, ReportSettings))


@pytest.mark.slow
def test_a_killed_explanation_is_the_one_before_or_none_and_is_made_again(path: Path) -> None:
    settings = read_settings(path, FitSettings)
    run_and_kill(explain_income, path, ENOUGH)
    right = show_explain(path)
    whole = {one.folder for one in read_explanations(settings.folder)}
    seconds = run_and_kill(explain_income, path, ENOUGH)
    for i in range(KILLS):
        run_and_kill(explain_income, path, seconds * (i + 0.5) / KILLS)
        for one in read_explanations(settings.folder):  # every one that is there is whole
            assert one.folder in whole
        assert show_report(path) is not None
    run_and_kill(explain_income, path, ENOUGH)
    assert {one.folder for one in read_explanations(settings.folder)} == whole
    assert "".join(hash_tree(settings.folder / "explain" / "income", ".png")) == right


@pytest.mark.slow
def test_a_killed_report_leaves_the_page_before_or_the_new_one(path: Path) -> None:
    settings = read_settings(path, ReportSettings)
    seconds = run_and_kill(report, path, ENOUGH)
    folder = settings.folder / "report"
    names = ("leaderboard.csv", "errors.csv", "leaderboard_classes.csv")
    right = {name: (folder / name).read_bytes() for name in names}
    for i in range(KILLS):
        run_and_kill(report, path, seconds * (i + 0.5) / KILLS)
        page = (folder / "index.html").read_text(encoding="utf-8")
        assert page.rstrip().endswith("</html>")
        for name in names:
            assert (folder / name).read_bytes() == right[name]
    run_and_kill(report, path, ENOUGH)
    assert {name: (folder / name).read_bytes() for name in names} == right
    assert not list(folder.glob("*.partial"))
