"""The report of targets that are classes, alone and beside numbers."""

from __future__ import annotations

from pathlib import Path

import made_experiment
import numpy as np
import pandas as pd
import pytest
from made_experiment import fit, make_experiment

from extract.settings import read_settings
from reports.build import build_report
from reports.settings import ReportSettings


def report(folder: Path, targets: str) -> Path:
    path = make_experiment(folder / "made", names=["mean", "ridge", "stack"])
    signal = made_experiment.read_signal()
    made_experiment.write_table(
        path.parent, kind=np.where(signal > np.median(signal), "<high>", "low")
    )
    path.write_text(path.read_text().replace('columns = ["income", "health"]', targets))
    fit(path)
    return build_report(read_settings(path, ReportSettings))


@pytest.mark.parametrize("targets", ['classes = ["kind"]', 'columns = ["income", "kind"]'])
def test_classes_have_an_answer_and_a_leaderboard(targets: str, tmp_path: Path) -> None:
    page = report(tmp_path, targets)
    text = page.read_text()
    assert "balanced accuracy" in text
    assert "Unfinished" not in text
    assert "better than the best baseline" in text.split("</header>")[0]
    board = pd.read_csv(page.with_name("leaderboard_classes.csv"))
    assert board["model"].tolist() == ["ridge", "mean"]
    assert board["balanced_accuracy"].iloc[0] > 0.7 > board["balanced_accuracy"].iloc[1]
