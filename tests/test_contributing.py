"""The worked examples of CONTRIBUTING.md run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds

ROOT = Path(__file__).resolve().parents[1]


def run_example(title: str) -> dict[str, Any]:
    """Run the Python of a chapter, and return the names that it made."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    chapter = text.split(f"## {title}")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", chapter, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_a_backbone_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from extract.networks.registry import REGISTRY

    monkeypatch.delitem(REGISTRY, "mynet", raising=False)
    network = run_example("Add a backbone")["network"]
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    rows = np.asarray(network.model(pictures))
    assert rows.shape == (2, 96)
    del REGISTRY["mynet"]


def test_a_model_is_a_family() -> None:
    from models.families.registry import FAMILIES

    model = run_example("Add a model")["Median"]()
    del FAMILIES["median"]
    area = np.arange(40) // 4
    fold = assign_folds("area", area=area, xy=None, targets=None, n_folds=4, seed=0, block_m=1)
    folds = build_folds("area", fold, area=area, xy=None, block_m=1, buffer_m=0)
    Y = np.arange(40.0)[:, None]
    X = Features(np.zeros((40, 2), np.float32))
    predicted = model.cross_fit(X, Y, folds=folds, weight=np.ones(40)).predicted
    for held in range(4):
        expected = np.median(Y[fold != held])
        np.testing.assert_array_equal(predicted[fold == held], expected)


def test_a_section_makes_sentences_from_numbers() -> None:
    describe = run_example("Add a section to the report")["describe_coverage"]
    assert describe(pd.DataFrame({"coverage": [0.83, 0.79]})) == (
        "The intervals held at least 79 % of the areas."
    )
