"""Learning curves on the page, where a run states them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from made_report import CUTS, Experiment

from extract.errors import RunFileError
from extract.files.hashing import hash_file
from models.store.runs import run_folder
from reports.sections.curves import MAX_EPOCHS, build_curves, describe_curves

N_EPOCHS, BEST = 200, 137


def curves(*targets: str) -> pd.DataFrame:
    """Return curves of two folds whose held-out loss is least at epoch 137, and then rises."""
    epoch = range(1, N_EPOCHS + 1)
    losses = {
        "loss": [1 / e for e in epoch],
        "held_loss": [2 / BEST + abs(e - BEST) / 100 for e in epoch],
    }
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "target": t,
                    "fold": f,
                    "epoch": epoch,
                    **losses,
                    "best": [e == BEST for e in epoch],
                }
            )
            for t in targets
            for f in range(2)
        ],
        ignore_index=True,
    )


@pytest.fixture
def city(tmp_path: Path) -> Experiment:
    return Experiment(tmp_path / "city").write()


def write(city: Experiment, table: pd.DataFrame, model: str = "knn") -> Path:
    path = run_folder(city.out, "block", CUTS[0], model) / "curves.csv"
    table.to_csv(path, index=False)
    run = json.loads((path.parent / "run.json").read_text())
    run.pop("sha256", None)
    run.setdefault("files", {})["curves.csv"] = {
        "sha256": hash_file(path),
        "bytes": path.stat().st_size,
    }
    (path.parent / "run.json").write_text(json.dumps(run))
    return path


def test_curves_stand_on_the_page_with_the_epoch_that_was_kept(city: Experiment) -> None:
    write(city, curves("income"))
    page = city.render()
    assert '<section id="curves">' in page
    assert 'href="#curves"' in page
    assert "epoch 137 to 137" in page
    assert "2.0 times that on training rows" in page
    assert f"Loss of knn ({CUTS[0]}), one picture a fold; kept: epoch {BEST}" in page
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S)[1])
    assert [name for name in figures if name.startswith("curves")] == ["curves-0"]


def test_no_curves_no_section(city: Experiment) -> None:
    page = city.render()
    assert 'id="curves"' not in page
    assert 'href="#curves"' not in page


def test_many_epochs_are_thinned_and_the_best_is_drawn() -> None:
    table = curves("income").assign(model="head", cut="c")
    collected: Any = SimpleNamespace(curves=table)
    rows = build_curves(collected, "income")["datasets"]["losses"]
    assert len(rows) <= 2 * 2 * (MAX_EPOCHS + 1)
    assert {row["epoch"] for row in rows if row["best"]} == {BEST}
    assert build_curves(collected, "crime") is None


def test_networks_that_were_still_learning_are_told_of() -> None:
    early = curves("income").query("epoch <= @BEST", local_dict={"BEST": BEST})
    assert "2 of 2 were still learning when they were stopped" in describe_curves(early)
    assert "All had stopped gaining" in describe_curves(curves("income"))


def test_loss_that_reached_0_is_not_divided_by() -> None:
    said = describe_curves(curves("income").assign(loss=0.0))
    assert "inf" not in said
    assert "All had stopped gaining" in said


def test_curves_that_the_run_did_not_write_are_refused(city: Experiment) -> None:
    path = write(city, curves("income"))
    path.write_text(path.read_text().replace("0.5", "0.4"))
    with pytest.raises(
        RunFileError, match=r"curves.csv: not the file that `make models` wrote.*again"
    ):
        city.render()
