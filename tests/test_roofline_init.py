"""`roofline init` guesses a settings file that is read, and says what it guessed."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from extract.settings import read_settings
from reports.settings import ReportSettings
from roofline.cli import app

N = 40


def make_town(folder: Path, **columns: object) -> None:
    """Write pictures (their headers alone are never read) and a table of a town."""
    (folder / "tiles").mkdir()
    area = np.arange(N) // 4
    table = {
        "tile": [f"{i:03d}" for i in range(N)],
        "LSOA11CD": [f"E{a}" for a in area],
        "LSOA11NM": [f"Town {a}" for a in area],
        "LAD17CD": np.where(area < 5, "north", "south"),
        "LAD17NM": np.where(area < 5, "The North", "The South"),
        "income": area / 10,
        "brightness": np.arange(N) * 1.5,
        "easting": 530000 + np.arange(N) * 200.0,
        "northing": 180000.0,
        **columns,
    }
    frame = pd.DataFrame(table)
    frame.to_csv(folder / "tiles.csv", index=False)
    for name in table["tile"]:
        (folder / "tiles" / f"LIDAR_{name}.png").write_bytes(b"x")


def init(folder: Path) -> Result:
    words = ["init", "--tiles", folder / "tiles", "--table", folder / "tiles.csv"]
    return CliRunner().invoke(app, [*map(str, words), "--out", str(folder / "town.toml")])


def test_what_a_table_means_is_guessed_and_said(tmp_path: Path) -> None:
    make_town(tmp_path)
    done = init(tmp_path)
    assert done.exit_code == 0, done.output
    assert "pictures: LIDAR_{tile}.png, 40 of 40 rows have one" in done.stdout
    assert "next: " in done.stderr
    assert "tiles lie 200 m apart: set size_m" in done.stderr
    assert "# size_m = 200 " in (tmp_path / "town.toml").read_text()
    settings = read_settings(tmp_path / "town.toml", ReportSettings)
    assert settings.tiles.id == "tile"
    assert settings.tiles.area == "LSOA11CD"
    assert (settings.tiles.x, settings.tiles.y) == ("easting", "northing")
    assert settings.tiles.groups == ["LAD17CD"]
    assert settings.targets.columns == ["income"]
    assert settings.models.splits == ["random", "area", "block"]
    assert settings.models.block_m == 500  # 7,800 m in 16 blocks; 1,000 m gives 8


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    make_town(tmp_path)
    (tmp_path / "town.toml").write_text("mine")
    done = init(tmp_path)
    assert done.exit_code == 1
    assert "is there already. Name another file with --out." in done.stderr
    assert (tmp_path / "town.toml").read_text() == "mine"


def test_degrees_are_no_metres(tmp_path: Path) -> None:
    make_town(tmp_path, easting=np.linspace(-0.1, 0.1, N), northing=51.5)
    done = init(tmp_path)
    assert "look like degrees" in done.stderr
    document = tomllib.loads((tmp_path / "town.toml").read_text())
    assert "x" not in document["tiles"]
    assert document["models"]["splits"] == ["random", "area"]


def test_pictures_that_no_column_names_are_said(tmp_path: Path) -> None:
    make_town(tmp_path, tile=[f"other{i}" for i in range(N)])
    for path in (tmp_path / "tiles").iterdir():
        path.rename(path.with_name(path.name.replace("LIDAR_other", "p")))
    done = init(tmp_path)
    assert done.exit_code == 1
    assert "no column of ids that stand in the names of the pictures, as 'p0.png'" in done.stderr


@pytest.mark.parametrize("name", ["tiles", "tiles.csv"])
def test_what_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    make_town(tmp_path)
    (tmp_path / name).rename(tmp_path / "elsewhere")
    done = init(tmp_path)
    assert done.exit_code == 1
    assert name in done.stderr
    assert "Traceback" not in done.stderr
