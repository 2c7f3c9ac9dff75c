"""What a dry run predicts: what runs in the folder took, and nothing of what was never fitted."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_experiment import change, fit, make_experiment

from extract.config.cuts import parse_cut
from models.execution.fit_progress import FitProgress
from models.execution.forecast import Forecast, forecast
from models.fit import plan_all
from models.store.cells import Cell, Planned

AVG, MAX = parse_cut("net/last:avg"), parse_cut("net/last:max")


def planned(
    model: str, *, split: str = "area", cut: object = AVG, took: tuple[float, ...] = ()
) -> Planned:
    """Return a run of two targets: done where there are seconds, else to fit."""
    targets = ["income", "health"]
    return Planned(
        cell=Cell(split, cut, model),  # type: ignore[arg-type]
        inputs={},
        depends={},
        is_nested=False,
        keys=dict.fromkeys(targets, "key"),
        missing=[] if took else targets,
        stale={},
        done={},
        took=dict(zip(targets, took, strict=False)),
    )


def predict(*runs: Planned) -> list[float | None]:
    return list(forecast(list(runs)).seconds.values())


def test_a_run_costs_what_the_same_cut_and_model_did() -> None:
    same = planned("ridge", split="random", took=(1.0, 3.0))
    other_cut = planned("ridge", cut=MAX, took=(50.0, 50.0))
    assert predict(same, other_cut, planned("ridge")) == [4.0]


def test_else_what_the_model_and_else_what_the_family_did() -> None:
    ridge = planned("ridge", cut=MAX, took=(2.0, 2.0))
    pooled = planned("ridge@area", cut=MAX, took=(9.0, 9.0))
    assert predict(ridge, pooled, planned("ridge")) == [4.0]
    assert predict(pooled, planned("ridge")) == [18.0]


def test_what_was_never_fitted_here_is_unknown() -> None:
    found = forecast([planned("ridge", took=(2.0, 2.0)), planned("knn"), planned("knn", cut=MAX)])
    assert list(found.seconds.values()) == [None, None]
    assert found.unknown == ["knn"]
    assert found.total(1) == 0


def test_workers_share_the_time_but_for_the_longest_run() -> None:
    seconds = {Cell("area", AVG, m): s for m, s in (("ridge", 3.0), ("knn", 4.0), ("head", None))}
    found = Forecast(seconds=seconds)
    assert found.total(1) == pytest.approx(7.0)
    assert found.total(8) == 4.0


def test_stale_runs_of_a_folder_predict_what_they_take_again(tmp_path: Path) -> None:
    path = make_experiment(tmp_path, names=["forest"])
    path.write_text(path.read_text() + "[models.params.forest]\nn_estimators = 10\n")
    fit(path)
    path.write_text(path.read_text().replace("n_estimators = 10", "n_estimators = 20"))
    progress = FitProgress()
    _, (run,) = plan_all(change(path), progress, is_read_only=True)
    assert progress.expected.seconds[run.cell] == pytest.approx(sum(run.took.values()))
