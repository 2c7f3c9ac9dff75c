"""What a dry run predicts: it follows the parameters, and what runs of the folder took corrects it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_experiment import change, fit, make_experiment

from extract.networks.registry import REGISTRY
from models.execution.costs import FORMULAS, NETWORK_GMACS, Work, count_seconds
from models.execution.progress import Heard
from models.families.registry import (
    BASELINES,
    FAMILIES,
    FINETUNE,
    STACK,
    build_model,
    find_family,
    parse_model,
)
from models.fit import plan_all

WORK = Work(
    n_tiles=12_000,
    n_areas=2400,
    n_features=512,
    grid=(14, 14, 512),
    backbone="vgg16",
    side=224,
    outputs=(1,) * 7,
    folds=5,
    is_nested=False,
)


def seconds(name: str, *, params: dict[str, Any] | None = None, **work: Any) -> float:
    spec = parse_model(name)
    return count_seconds(
        spec, build_model(spec, seed=0, params=params).get_params(), WORK._replace(**work)
    )


def test_a_search_grows_with_the_square_of_the_tiles_and_nothing_else_does() -> None:
    growth = {
        m: seconds(m, n_tiles=480_000) / seconds(m, n_tiles=120_000)
        for m in ("ridge", "xgboost", "forest", "head", "knn")
    }
    assert growth.pop("knn") > 12
    assert max(growth.values()) < 7


@pytest.mark.parametrize(
    ("name", "few", "many", "factor"),
    [
        ("forest", {"n_trees": 20}, {"n_trees": 200}, 10),
        ("forest", {}, {"search": True}, 3.5),
        ("xgboost", {"n_estimators": 10}, {"n_estimators": 60}, 2),
        ("xgboost", {"max_depth": 2}, {"max_depth": 6}, 1.1),
        ("xgboost", {}, {"columns": 1.0}, 3.5),
        ("head", {"epochs": 2}, {"epochs": 10}, 5),
        ("cnn", {"epochs": 2}, {"epochs": 10}, 5),
        ("tail", {"epochs": 1}, {"epochs": 5}, 5),
        ("tail", {"joint": True}, {}, 7),
        ("finetune:vgg16", {"epochs": 1, "warm_epochs": 0}, {"epochs": 5, "warm_epochs": 0}, 5),
    ],
)
def test_the_forecast_follows_the_parameters(
    name: str, few: dict[str, Any], many: dict[str, Any], factor: float
) -> None:
    assert seconds(name, params=many) / seconds(name, params=few) == pytest.approx(factor, rel=0.3)


def test_epochs_that_no_training_comes_to_cost_nothing() -> None:
    assert seconds("head", params={"epochs": 200}) == seconds("head", params={"epochs": 5000})


def test_a_deeper_cut_leaves_a_cheaper_tail_and_larger_pictures_a_dearer_network() -> None:
    assert seconds("tail", grid=(56, 56, 256)) > 3 * seconds("tail")
    assert seconds("finetune:vgg16", side=448) > 3 * seconds("finetune:vgg16")
    assert seconds("finetune:mobilenetv2") < seconds("finetune:vgg16") / 3


def test_every_family_and_network_has_a_cost() -> None:
    assert set(NETWORK_GMACS) == set(REGISTRY)
    assert set(FORMULAS) | {"ridge", "geodemographic", "metadata"} == {*BASELINES, *FAMILIES, STACK}
    for family in {*BASELINES, *FAMILIES} - {FINETUNE}:
        assert count_seconds(parse_model(family), find_family(family)().get_params(), WORK) > 0


def test_runs_of_this_folder_predict_what_other_parameters_take(tmp_path: Path) -> None:
    path = make_experiment(tmp_path, names=["forest"])
    path.write_text(path.read_text() + "[models.params.forest]\nn_trees = 100\n")
    took = fit_seconds(path)
    path.write_text(path.read_text().replace("n_trees = 100", "n_trees = 400"))
    heard = Heard()
    _, (planned,) = plan_all(change(path), heard, is_read_only=True)
    assert heard.expected.source == "from the runs in this folder for forest"
    assert 2 < heard.expected.seconds[planned.cell] / took < 5


def fit_seconds(path: Path) -> float:
    fit(path)
    _, (planned,) = plan_all(change(path), Heard(), is_read_only=True)
    return sum(planned.took.values())


def test_workers_share_the_time_but_for_the_longest_run(tmp_path: Path) -> None:
    path, heard = make_experiment(tmp_path, names=["mean", "ridge", "forest"]), Heard()
    plan_all(change(path), heard, is_read_only=True)
    longest = max(heard.expected.seconds.values())
    assert heard.expected.total(1) == pytest.approx(sum(heard.expected.seconds.values()))
    assert heard.expected.total(8) == longest
