"""The page from synthetic artifacts: its numbers, its escaping, its gaps."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from extract.settings import read_settings
from reports.cli import app, build_report
from reports.settings import Settings

EVIL = "<script>alert(1)</script>"


class Experiment:
    """A folder of artifacts, written as the contracts say."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "city.toml"
        self.random = np.random.default_rng(0)

    def write(
        self,
        targets=("income", "crime"),
        splits=("random", "area", "block"),
        cuts=("vgg16/block5_pool:avg", "vgg16/block4_pool:avg"),
        *,
        weights="imagenet",
        ceiling=True,
        rejects=True,
        title="A city",
    ):
        self.folder.mkdir(exist_ok=True)
        names = json.dumps(list(targets), ensure_ascii=False)
        line = 'ceiling = "ceiling.csv"\n' if ceiling else ""
        self.config.write_text(
            f'name = "city"\nout = "out"\n[tiles]\ntable = "tiles.csv"\nimages = "."\narea = "LSOA"\n'
            f"[targets]\ncolumns = {names}\n{line}"
            f'[extract]\ncuts = {json.dumps(list(cuts))}\nweights = "{weights}"\n'
            f"[reports]\ntitle = {json.dumps(title)}\n",
            encoding="utf-8",
        )
        tiles = pd.DataFrame({"id": range(60), "LSOA": [EVIL if i < 3 else f"E{i // 3}" for i in range(60)]})
        for target in targets:
            tiles[target] = np.repeat(self.random.normal(size=20), 3)
        tiles.to_csv(self.folder / "tiles.csv", index=False)
        pd.DataFrame([(t, lv, 0.81) for t in targets for lv in ("tile", "area")], columns=["target", "level", "r2"]).to_csv(
            self.folder / "ceiling.csv", index=False
        )
        self.write_runs(tiles, targets, splits, cuts)
        self.write_features(weights, rejects)
        return self

    def write_runs(self, tiles, targets, splits, cuts):
        rows = []
        for split in splits:
            for cut, model, r2 in [("none", "mean", -0.01), ("none", "location", 0.1234)] + [
                (cut, model, 0.51 - 0.1 * i - 0.05 * j + 0.3 * (split == "random"))
                for i, cut in enumerate(cuts)
                for j, model in enumerate(("ridge", "knn"))
            ]:
                backbone, layer, pooling = re.split("[/:]", cut) if cut != "none" else ("none",) * 3
                folder = self.folder / "out" / "runs" / split / cut / model
                folder.mkdir(parents=True, exist_ok=True)
                run = {"schema": "roofline.run", "schema_version": 1}
                (folder / "run.json").write_text(json.dumps(run))
                pd.concat(
                    pd.DataFrame(
                        {
                            "id": tiles["id"],
                            "fold": tiles.index % 5,
                            "target": t,
                            "truth": tiles[t],
                            "prediction": tiles[t] * 0.5,
                        }
                    )
                    for t in targets
                ).to_parquet(folder / "predictions.parquet")
                rows += [
                    {
                        "split": split,
                        "backbone": backbone,
                        "layer": layer,
                        "pooling": pooling,
                        "model": model,
                        "target": t,
                        "level": level,
                        "n": 20 if level == "area" else 60,
                        "mse": 1.0,
                        "rmse": 1.0,
                        "nrmse": 0.9,
                        "mae": 0.8,
                        "r2": r2 - 0.07 * (level == "tile"),
                        "spearman": float("nan"),
                        "r2_low": r2 - 0.1,
                        "r2_high": r2 + 0.1,
                        "rmse_low": 0.9,
                        "rmse_high": 1.1,
                        "fit_seconds": 0.25,
                    }
                    for t in targets
                    for level in ("tile", "area")
                ]
        pd.DataFrame(rows).to_csv(self.folder / "out" / "scores.csv", index=False)

    def write_features(self, weights, rejects):
        features = self.folder / "out" / "features"
        features.mkdir(exist_ok=True)
        with h5py.File(features / "vgg16.h5", "w") as file:
            file.attrs.update(
                {
                    "schema": "roofline.embeddings",
                    "schema_version": 1,
                    "weights": weights,
                    "weights_are_random": weights.startswith("random"),
                    "weights_sha256": "ab" * 32,
                    "precision": "float32",
                    "device": "CPU",
                    "created_with": "roofline",
                    "settings": "{}",
                }
            )
            file["id"], file["status"] = np.arange(60), np.r_[2, np.ones(59)].astype(np.uint8)
            file["cuts/block5_pool:avg"] = np.zeros((60, 2), np.float16)
        (features / "stages.json").write_text(
            json.dumps(
                {
                    "vgg16": {
                        "tiles": 60,
                        "tiles_per_second": 12.5,
                        "seconds": {"read": 1.0, "forward": 4.0, "total": 5.0},
                    }
                }
            )
        )
        if rejects:
            (features / "rejects.csv").write_text(f"id,path,reason\n0,a.png,{EVIL}\n")

    def build(self) -> str:
        return build_report(read_settings(self.config, Settings)).read_text(encoding="utf-8")


@pytest.fixture
def city(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path / "city")


class Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.loads += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action") and v]


def test_page_has_the_numbers_of_the_strictest_split_and_everything_beside_it(city):
    page = city.write().build()
    row = re.search(r'<tr><th scope="row">income</th>.*?</tr>', page, re.S)[0]
    for text in (
        "ridge",
        "vgg16/block5_pool:avg",
        "<b>0.51</b>",
        "0.41 … 0.61",
        "location",
        "0.39",
        "0.12",
        "0.81",
    ):
        assert text in row
    assert "whole blocks of the map held out" in page
    assert "The difference of 0.30 is recognising neighbours" in page
    assert "For income, the pictures explain 51% (41% to 61%)" in page
    assert "12.5" in page
    assert "Random weights" not in page
    report = city.folder / "out" / "report"
    with (report / "leaderboard.csv").open() as file:
        board = list(csv.DictReader(file))
    assert len(board) == 2 * 3 * 6
    assert [board[0][k] for k in ("split", "rank", "model")] == ["block", "1", "ridge"]
    assert (report / "leaderboard.md").read_text().startswith("| target | split |")
    assert r"block5\_pool" in (report / "leaderboard.tex").read_text()
    assert {p.name for p in report.glob("*.svg")} == {
        "cost.svg",
        "heat-01-income.svg",
        "heat-02-crime.svg",
        "ladder-01-income.svg",
        "ladder-02-crime.svg",
        "truth-01-income.svg",
        "truth-02-crime.svg",
    }


def test_page_loads_nothing_from_outside(city):
    page = city.write().build()
    seen = Resources()
    seen.feed(page)
    assert seen.loads == ["data:,"]
    assert "@import" not in page.split("</style>")[0]


def test_names_that_are_markup_are_escaped_everywhere(city):
    page = city.write(targets=(EVIL, "b"), title=EVIL).build()
    seen = Resources()
    seen.feed(page)
    assert seen.scripts == 3
    assert EVIL not in page
    assert "&lt;script&gt;alert(1)" in page
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S)[1])
    assert EVIL in json.dumps(figures)


def test_random_weights_are_announced(city):
    assert "Random weights: these numbers say nothing about the real networks" in city.write(weights="random:0").build()


def test_one_target_one_cut_one_split_without_ceiling_and_rejects(city):
    page = city.write(("income",), ("area",), ("vgg16/block5_pool:avg",), ceiling=False, rejects=False).build()
    assert "<b>0.51</b>" in page
    assert "Rejected tiles:" not in page


def test_undefined_r2_is_a_dash(city):
    city.write(("income",), ("area",))
    path = city.folder / "out" / "scores.csv"
    scores = pd.read_csv(path).assign(r2=float("nan"), r2_low=float("nan"), r2_high=float("nan"))
    scores.to_csv(path, index=False)
    page = city.build()
    assert "<b>–</b>" in page
    assert "NaN" not in re.search(r'id="figures">(.*?)</script>', page, re.S)[1]
    assert "nothing to conclude" in page


def test_baselines_alone_and_no_table_and_no_features(city):
    city.write(("income",), ("area",))
    path = city.folder / "out" / "scores.csv"
    scores = pd.read_csv(path, keep_default_na=False)
    scores[scores["backbone"] == "none"].to_csv(path, index=False)
    (city.folder / "tiles.csv").unlink()
    (city.folder / "out" / "features" / "vgg16.h5").unlink()
    assert "only baselines were fitted" in city.build()


def test_missing_scores_is_one_line_that_names_make_models(city):
    city.write()
    (city.folder / "out" / "scores.csv").unlink()
    result = CliRunner().invoke(app, ["build", "--config", str(city.config)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "make models" in result.stderr
    assert result.stderr.count("\n") == 1


def test_last_line_is_the_path(city):
    result = CliRunner().invoke(app, ["build", "--config", str(city.write(("income",)).config)])
    assert result.exit_code == 0, result.stderr
    page = city.folder / "out" / "report" / "index.html"
    assert result.stdout.splitlines()[-1] == f"report: {page.resolve()}"


def test_importing_reports_loads_no_keras():
    code = "import sys, reports.cli; print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
        ).stdout.strip()
        == "[]"
    )
