"""The card beside a kept model: what it is, how good it is, what it is not for, how to load it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from models.store.kept_models import read_kept, save_model
from models.store.model_folder import check_sealed
from models.store.model_readme import LIMITS, describe_model

SCORES = {
    "level": "area",
    "n": 25,
    "r2": 0.51234,
    "r2_low": -0.1,
    "r2_high": 0.7,
    "rmse": 1.5,
    "rmse_low": None,
    "rmse_high": None,
    "balanced_accuracy": None,
}


def state(**changes: Any) -> dict[str, Any]:
    return {
        "target": "in|come\n# <b>",
        "classes": [],
        "cut": "vgg16/block5_pool:avg",
        "split": "block",
        "key": "k",
        "settings": {"name": "my town"},
        "scores": [SCORES],
        "feed": {"kind": "embedding", "groups": True},
        "training": {"n_rows": 99, "tiles_sha256": "ab" * 32},
        "licence": "Apache 2.0",
        "intervals": {"area": {"0.8": 1.25, "0.95": None}},
        **changes,
    }


def test_card_says_what_the_model_is_and_how_good() -> None:
    card = describe_model("ridge", state())
    assert card.startswith("---\nlibrary_name: roofline\npipeline_tag: tabular-regression\n---\n")
    for line in (
        "# ridge of in\\|come \\# \\<b\\>",
        "It is fed embeddings of `vgg16/block5_pool:avg` and descriptors of areas, "
        "and was fitted on 99 rows.",
        "| area | 25 | R² | 0.512 | −0.1 … 0.7 |",
        "| area | 25 | RMSE | 1.5 | – … – |",
        "- areas, 80 %: ± 1.25",
        "- areas, 95 %: too few areas for one",
        f"- {LIMITS[0]}",
        f"- SHA-256 of tiles: `{'ab' * 32}`",
    ):
        assert line in card.splitlines()
    command = re.search(r"python -m models predict (.*)", card)[1]
    assert "--config 'my town.toml'" in command
    assert "--cut vgg16/block5_pool:avg" in command


def test_card_is_sealed_with_the_model(tmp_path: Path) -> None:
    path = tmp_path / "models/income/none/mean"

    class Model:
        def save(self, folder: Path) -> None:
            (folder / "model.bin").write_bytes(b"1")

    save_model(path, "mean", Model(), state(target="income", cut="none"))
    facts = read_kept(tmp_path, path).facts
    assert facts["files"]["README.md"]["bytes"] == (path / "README.md").stat().st_size
    check_sealed(path, facts)


def test_card_of_classes_speaks_of_sets() -> None:
    card = describe_model("svm", state(classes=["a", "b"], feed={"kind": "embedding"}))
    assert "pipeline_tag: tabular-classification" in card
    assert "Sets of classes that hold the true one in 80 % and 95 % of new areas." in card
