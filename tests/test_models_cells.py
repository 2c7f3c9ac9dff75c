"""Nothing is fitted twice; what has changed is noticed, and said."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_experiment import N, change, fit, make_experiment, write_features, write_table

from extract.errors import LockError, RunFileError
from extract.files.locks import locked
from models.families.linear.ridge import SharedRidge
from models.fit import fit_all
from models.store.runs import (
    mend_run,
    read_finished,
    read_nested,
    read_predictions,
    run_folder,
    write_run,
)
from models.store.staleness import count_reasons, name_changes

ONE = ("area", "net/last:avg", "ridge")


def cells(
    *models: str,
    cut: str = "net/last:avg",
    split: str = "area",
    targets: tuple[str, ...] = ("income", "health"),
) -> set:
    return {
        (split, "none" if m == "mean" else "all" if m == "stack" else cut, m, t)
        for m in models
        for t in targets
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = make_experiment(tmp_path)
    assert fit(path).fitted == cells("mean", "ridge")
    return path


def test_with_nothing_changed_nothing_is_fitted(path: Path) -> None:
    heard = fit(path)
    assert heard.fitted == set()
    assert not [
        note for note in heard.notes if "stale" in note or "folds" in note or "kept" in note
    ]


def test_a_new_target_model_cut_or_split_fits_only_itself(path: Path) -> None:
    assert fit(path, columns=["income", "health", "crime"]).fitted == cells(
        "mean", "ridge", targets=("crime",)
    )
    three = ("income", "health", "crime")
    assert fit(path, names=["mean", "ridge", "ridge@area"]).fitted == cells(
        "ridge@area", targets=three
    )
    cut = fit(path, cuts=["net/last:avg", "net/first:avg"])
    assert cut.fitted == cells("ridge", "ridge@area", cut="net/first:avg", targets=three)
    both = fit(path, splits=["area", "random"]).fitted
    assert {split for split, *_ in both} == {"random"}
    assert len(both) == (1 + 2 * 2) * 3


def test_a_target_that_was_left_out_for_a_while_is_still_there(path: Path) -> None:
    fit(path, columns=["income", "crime"])
    assert fit(path, columns=["income", "health", "crime"]).fitted == set()


def test_changed_labels_of_a_target_make_its_cells_stale_alone(path: Path) -> None:
    before = read_predictions(change(path).folder, *ONE)
    write_table(path.parent, health=np.arange(N) // 4 * 1.5)
    heard = fit(path)
    assert heard.fitted == cells("mean", "ridge", targets=("health",))
    assert "2 cells stale: the labels of health changed" in heard.notes
    after = read_predictions(change(path).folder, *ONE)
    pd.testing.assert_frame_equal(
        *(f[f["target"] == "income"].reset_index(drop=True) for f in (before, after))
    )


def test_changed_embeddings_make_their_cuts_stale(path: Path) -> None:
    write_features(change(path), seed=5)
    heard = fit(path)
    assert heard.fitted == cells("ridge")
    assert "2 cells stale: the embeddings of net/last:avg changed" in heard.notes


def test_another_version_of_the_family_or_of_its_library_is_said(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedRidge, "revision", SharedRidge.revision + 1)
    assert (
        fit(path).notes[0]
        == f"2 cells stale: ridge: revision {SharedRidge.revision - 1} → {SharedRidge.revision}"
    )
    old = {"params": {"n_estimators": 100}, "versions": {"scikit-learn": "1.8"}, "weights": "tile"}
    new = {"params": {"n_estimators": 200}, "versions": {"scikit-learn": "1.9"}, "weights": "area"}
    assert name_changes(old, new, cell=("area", "net/last:avg", "forest"), target="income") == [
        "forest: n_estimators 100 → 200",
        "forest: scikit-learn 1.8 → 1.9",
        "[models]: weights tile → area",
    ]
    assert count_reasons([["a", "b"], ["a"]]) == "a (2); b (1)"


def test_a_stack_asks_its_members_once_more_and_leaving_it_out_costs_nothing(path: Path) -> None:
    heard = fit(path, names=["mean", "ridge", "stack"])
    assert heard.fitted == cells("ridge", "stack")
    assert "2 cells stale: a stack now needs their nested predictions" in heard.notes
    assert fit(path, names=["mean", "ridge"]).fitted == set()
    assert fit(path, names=["mean", "ridge", "ridge@area", "stack"]).fitted == cells(
        "ridge@area", "stack"
    )


def test_a_run_that_is_not_whole_is_fitted_again_and_no_other(path: Path) -> None:
    folder = run_folder(change(path).folder, *ONE)
    (folder / "predictions.parquet").write_bytes(b"torn")
    assert fit(path).fitted == cells("ridge")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda run: run.pop("files"), "files: field required"),
        (lambda run: run.update(cells=[]), "cells: input should be"),
        (
            lambda run: run["cells"]["income"].pop("is_nested"),
            r"cells\.income\.is_nested: field required",
        ),
        (
            lambda run: run["cells"]["income"].update(seconds="x"),
            r"cells\.income\.seconds: input should be a valid number",
        ),
        (lambda run: run["chosen"].pop("health"), r"chosen\.health: field required"),
    ],
)
def test_a_run_that_says_something_else_is_refused_by_what_is_wrong(
    path: Path, damage: Any, fault: str
) -> None:
    file = run_folder(change(path).folder, *ONE) / "run.json"
    run = json.loads(file.read_text())
    del run["sha256"]
    damage(run)
    file.write_text(json.dumps(run))
    with pytest.raises(
        RunFileError,
        match=rf"run\.json: not what `make models` writes \({fault}.*Delete .*ridge and run",
    ):
        fit(path)


def test_parameters_of_another_version_only_leave_the_forecast_blind(path: Path) -> None:
    file = run_folder(change(path).folder, *ONE) / "run.json"
    run = json.loads(file.read_text())
    del run["sha256"]
    run["inputs"]["params"] = {"alphas": None, "exact_limit": "many"}
    for cell in run["cells"].values():
        cell["key"] = "another"
    file.write_text(json.dumps(run))
    assert fit(path).fitted == cells("ridge")


def test_a_second_fit_in_the_folder_is_refused_with_the_process(path: Path) -> None:
    settings = change(path)
    with locked(settings.folder), pytest.raises(LockError, match="in use by process"):
        fit_all(settings)


def frames(value: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = pd.DataFrame(
        {"id": [1], "fold": [0], "target": ["t"], "truth": [0.0], "prediction": [value]}
    )
    return table, table


@pytest.mark.parametrize("moment", range(8))
def test_a_kill_between_any_two_steps_leaves_the_old_run_or_the_new_one(
    tmp_path, monkeypatch, moment: int
) -> None:
    path, step = tmp_path / "runs/area/cut/ridge", count()
    write_run(path, *frames(1.0), {"cells": {}})

    def killed_at(function):
        def call(*given):
            if next(step) == moment:
                raise KeyboardInterrupt
            return function(*given)

        return call

    with monkeypatch.context() as patched:
        for name in ("_sync", "publish"):
            patched.setattr(
                f"models.store.runs.{name}",
                killed_at(getattr(__import__("models.store.runs", fromlist=[name]), name)),
            )
        try:
            write_run(path, *frames(2.0), {"cells": {}})
            assert moment >= 6
        except KeyboardInterrupt:
            pass
    mend_run(path)
    assert read_finished(tmp_path, "area", "cut", "ridge")
    value = read_predictions(tmp_path, "area", "cut", "ridge")["prediction"].item()
    assert value == read_nested(tmp_path, "area", "cut", "ridge")["prediction"].item()
    assert value == (2.0 if moment >= 2 else 1.0)
    assert not list(path.glob("*.partial"))
