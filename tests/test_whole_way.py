"""From a made city to the page, by the commands a user types."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import extract.cli
import models.cli
import reports.cli

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")


def command(*words: str | Path, cwd: Path, code: int = 0) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """A small city, embedded by a small random network, fitted and reported; gives the folder it
    all lies in.
    """
    folder = tmp_path_factory.mktemp("whole")
    command("extract", "sample", "--out", "city", "--tiles", "240", "--areas", "60", cwd=folder)
    settings = folder / "city" / "demo.toml"
    text = settings.read_text()
    text = re.sub(r"cuts = .*", 'cuts = ["vgg16/block2_pool:avg"]', text).replace(
        '"imagenet"', '"random:0"'
    )
    text = re.sub(r"^size = .*", "size = 64", text, flags=re.MULTILINE)
    text = re.sub(
        r"names = .*",
        'names = ["mean", "location", "ridge", "ridge@area", "knn", "forest", "xgboost", "stack"]',
        text,
    )
    text = re.sub(r"splits = .*", 'splits = ["area"]', text)
    text = re.sub(r"columns = .*", 'columns = ["income", "health", "crime"]', text)
    settings.write_text(text)
    for words in (("extract", "run"), ("models", "fit"), ("reports", "build")):
        command(*words, "--config", settings, cwd=folder)
    return folder


def scores(folder: Path, name: str = "demo") -> pd.DataFrame:
    return pd.read_csv(folder / "artifacts" / name / "scores.csv")


def test_ridge_beats_the_mean_and_nobody_passes_the_ceiling(city):
    table = scores(city).query("level == 'tile'")
    best = table.pivot_table(index="target", columns="model", values="r2", aggfunc="max")
    assert (best["ridge"] > best["mean"]).all()
    ceiling = (
        pd.read_csv(city / "city" / "ceiling.csv")
        .query("level == 'tile'")
        .set_index("target")["r2"]
    )
    assert (best.max(axis=1) < ceiling[best.index] + 0.05).all()


def test_with_shuffled_targets_no_model_beats_the_mean(city):
    settings = city / "city" / "demo.toml"
    table = pd.read_csv(city / "city" / "EmbeddingData.csv")
    columns = table.columns[-7:]
    areas = table.groupby("LSOA11CD")[list(columns)].first()
    areas[:] = areas.to_numpy()[np.random.default_rng(1).permutation(len(areas))]
    table[columns] = areas.loc[table["LSOA11CD"]].to_numpy()
    table.to_csv(city / "city" / "shuffled.csv", index=False)
    shuffled = settings.with_name("shuffled.toml")
    shuffled.write_text(
        settings.read_text()
        .replace('"demo"', '"shuffled"')
        .replace("EmbeddingData.csv", "shuffled.csv")
    )
    features = city / "artifacts" / "demo" / "features"
    shutil.copytree(features, city / "artifacts" / "shuffled" / "features")  # of the same pictures
    command("models", "fit", "--config", shuffled, cwd=city)
    best = (
        scores(city, "shuffled")
        .query("level == 'area'")
        .pivot_table(index="target", columns="model", values="r2")
    )
    assert best.drop(columns="mean").to_numpy().mean() < 0.0
    assert best.to_numpy().max() < 0.15


def test_a_second_time_nothing_is_done_and_the_scores_stay(city):
    before = scores(city)
    settings = city / "city" / "demo.toml"
    assert "nothing to do" in command("extract", "run", "--config", settings, cwd=city)
    runs = {p: p.stat().st_mtime_ns for p in city.rglob("run.json")}
    command("models", "fit", "--config", settings, cwd=city)
    assert runs == {p: p.stat().st_mtime_ns for p in city.rglob("run.json")}
    pd.testing.assert_frame_equal(scores(city), before)


def test_area_scores_are_what_the_predictions_say(city):
    table = pd.read_csv(city / "city" / "EmbeddingData.csv").set_index("id")["LSOA11CD"]
    row = scores(city).query("level == 'area' and model == 'ridge' and target == 'health'").iloc[0]
    folder = city / "artifacts/demo/runs/area/vgg16/block2_pool%3Aavg/ridge"
    frame = pd.read_parquet(folder / "predictions.parquet").query("target == 'health'")
    means = (
        frame.assign(area=frame["id"].map(table)).groupby("area")[["truth", "prediction"]].mean()
    )
    residual = ((means["truth"] - means["prediction"]) ** 2).sum()
    assert row["r2"] == pytest.approx(
        1 - residual / ((means["truth"] - means["truth"].mean()) ** 2).sum()
    )
    assert row["n"] == len(means)


@pytest.mark.parametrize(
    ("app", "verb"), [(extract.cli.app, "run"), (models.cli.app, "fit"), (reports.cli.app, "build")]
)
def test_errors_are_words_and_exit_code_1(app, verb):
    result = CliRunner().invoke(app, [verb, "--config", "none.toml"])
    assert result.exit_code == 1
    assert "no such file" in result.output
    assert "Traceback" not in result.output


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium at /usr/bin/chromium")
def test_the_page_opens_offline_without_errors(city):
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_context(offline=True).new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console",
            lambda message: problems.append(message.text) if message.type == "error" else None,
        )
        page.on(
            "request",
            lambda request: (
                request.url.startswith(("file:", "data:", "blob:")) or problems.append(request.url)
            ),
        )
        page.goto((city / "artifacts/demo/report/index.html").as_uri())
        page.wait_for_selector("svg, canvas")
        assert "Random weights" in page.inner_text("body")
        browser.close()
    assert problems == []
