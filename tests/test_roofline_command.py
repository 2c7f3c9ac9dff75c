"""`roofline` is the commands of the three packages under one name, and its help is quick."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

import extract.cli
import models.cli
import reports.cli
import roofline.cli
from extract.networks.registry import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
RENAMED = {"run": "features", "fit": "models", "build": "report"}
PACKAGES = {"extract": extract.cli.app, "models": models.cli.app, "reports": reports.cli.app}


def commands(app: Typer) -> dict[str, object]:
    """Return the function of each command by its name."""
    return {one.name or one.callback.__name__: one.callback for one in app.registered_commands}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_command_of_a_package_is_mounted(package: str) -> None:
    mounted = commands(roofline.cli.app)
    for name, function in commands(PACKAGES[package]).items():
        assert mounted[RENAMED.get(name, name)] is function


@pytest.mark.parametrize("name", commands(roofline.cli.app))
def test_every_command_has_help_with_an_example(name: str) -> None:
    function = commands(roofline.cli.app)[name]
    assert "Example: " in str(function.__doc__)


def test_version_is_that_of_the_package() -> None:
    told = CliRunner().invoke(roofline.cli.app, ["--version"])
    assert told.output.strip() == version("roofline")


def test_the_console_script_is_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"roofline": "roofline.cli:main"}


def test_help_and_a_wrong_name_load_no_large_package() -> None:
    script = """
import sys
from typer.testing import CliRunner
from roofline.cli import app
large = ["pandas", "pyarrow", "tensorflow", "keras", "sklearn", "scipy", "numpy"]
for words in (["--help"], ["models", "--help"]):
    assert CliRunner().invoke(app, words).exit_code == 0
    print([name for name in large if name in sys.modules])
told = CliRunner().invoke(app, ["layers", "vgg17"])
assert told.exit_code == 1
assert "Did you mean 'vgg1" in told.output
print([name for name in large if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.splitlines() == ["[]", "[]", "[]"]


def test_pipes_get_tabs_and_no_colour(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from rich.console import Console

    from extract import console

    monkeypatch.setattr(console, "out", Console())
    console.print_table(("cut", "bytes"), [("vgg16/block5_pool:avg", "1 kB")], title="3 tiles")
    assert capsys.readouterr().out == "cut\tbytes\nvgg16/block5_pool:avg\t1 kB\n"


def test_a_narrow_terminal_folds_and_cuts_nothing_off(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from rich.console import Console

    from extract import console

    name = "resnet50v2/conv4_block6_2_relu:avg"
    monkeypatch.setattr(console, "out", Console(force_terminal=True, width=30, no_color=True))
    console.print_table(("cut", "bytes"), [(name, "1 kB")], title="3 tiles")
    printed = capsys.readouterr().out
    assert "…" not in printed
    rows = [line for line in printed.splitlines() if "│" in line]
    assert "".join(row.split("│")[1].strip() for row in rows) == name
    assert max(map(len, rows)) <= 30


def test_all_backbones_are_named_where_one_is_wrong() -> None:
    told = CliRunner().invoke(roofline.cli.app, ["layers", "vgg17"])
    for name in REGISTRY:
        assert name in told.output
