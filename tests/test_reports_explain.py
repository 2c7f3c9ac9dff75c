"""The galleries on the page: what they show, escaped, and left out where there are none."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_report import CUTS, EVIL, Experiment

from extract.errors import RunFileError
from models.explaining.drawing import encode_png
from models.explaining.explanations import explanation_folder, name_file, write_explanation
from models.store.documents import write_json
from models.store.kept_models import SCHEMA, SCHEMA_VERSION, model_folder
from models.store.seal import seal

SANITY = {"rank_correlation": 0.1, "depends_on_weights": True, "n_tiles": 5, "shuffles": 3}


def write_gallery(
    out: Path, target: str, *, model: str = "ridge", key: str = "k", n: int = 20, **facts: object
) -> Path:
    """Write an explanation and the kept model that it is of."""
    rng, ids = np.random.default_rng(0), [EVIL, *(str(i) for i in range(1, n))]
    names = {
        kind: [f"{name_file(i)}_{kind}.png" for i in ids] for kind in ("tile", "heat", "overlay")
    }
    roles = [("best", "worst", "range", "range")[i % 4] for i in range(n)]
    tiles = pd.DataFrame(
        {
            "id": ids,
            "truth": rng.normal(size=n),
            "prediction": rng.normal(size=n),
            "role": roles,
            "explained": 0.0,
            "method": "exact",
            **names,
            "neighbours": "",
            "neighbour_ids": [[]] * n,
            "neighbour_truths": [[]] * n,
        }
    )
    noise = np.kron(rng.integers(0, 255, (28, 28, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    pictures = {name: encode_png(noise) for kind in names.values() for name in kind}
    path = explanation_folder(out, target, CUTS[0], model)
    write_explanation(
        path,
        tiles,
        pictures,
        {
            "target": target,
            "task": "number",
            "cut": CUTS[0],
            "model": model,
            "split": "block",
            "key": key,
            "method": "exact",
            "words": "exact: so",
            "limit": 2.5,
            "sanity": SANITY,
            "refitted": "",
            "seconds": 1.0,
            **facts,
        },
    )
    kept = model_folder(out, target, CUTS[0], model)
    kept.mkdir(parents=True, exist_ok=True)
    write_json(
        kept / "model.json",
        seal(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "target": target,
                "cut": CUTS[0],
                "model": model,
                "split": "block",
                "key": "k",
                "scores": [],
            }
        ),
    )
    return path


def section(page: str) -> str:
    return re.search(r'<section id="explain">.*?</section>', page, re.S)[0]


def test_a_page_without_galleries_has_no_such_section(tmp_path: Path) -> None:
    page = Experiment(tmp_path / "city").write().render()
    assert 'id="explain"' not in page
    assert 'href="#explain"' not in page


def test_every_tile_is_shown_with_truth_prediction_and_alternative_texts(tmp_path: Path) -> None:
    city = Experiment(tmp_path / "city").write()
    write_gallery(city.out, "income")
    text = section(city.render())
    assert text.count("<img") == 60
    assert text.count('alt="Heat map over tile ') == 20
    assert "data:image/jpeg;base64," in text
    assert re.findall("<h4>(.*?)</h4>", text) == [
        "Across the range of the truth",
        "The best predicted",
        "The worst predicted",
    ]
    assert re.search(r"7: truth −?[\d.]+, predicted −?[\d.]+", text)
    assert "No kept model of this index" in text  # crime
    assert EVIL not in text
    assert "&lt;script&gt;" in text


def test_seven_targets_of_twenty_tiles_stay_small(tmp_path: Path) -> None:
    targets = [f"t{i}" for i in range(7)]
    city = Experiment(tmp_path / "city").write(targets=targets)
    for target in targets:
        write_gallery(city.out, target)
    assert len(section(city.render())) < 4_000_000


def test_a_model_that_was_fitted_anew_is_not_shown_as_it_was(tmp_path: Path) -> None:
    city = Experiment(tmp_path / "city").write()
    write_gallery(city.out, "income")
    write_gallery(city.out, "crime", key="older")
    text = section(city.render())
    assert text.count("<img") == 60
    assert "has been fitted anew since it was explained" in text


def test_maps_that_do_not_depend_on_weights_are_warned_of(tmp_path: Path) -> None:
    city = Experiment(tmp_path / "city").write()
    write_gallery(
        city.out, "crime", sanity=SANITY | {"rank_correlation": 0.93, "depends_on_weights": False}
    )
    text = section(city.render())
    assert "Do not read the maps of crime" in text
    assert "correlate 0.93" in text


def test_maps_that_move_nothing_are_said_to_and_not_shown(tmp_path: Path) -> None:
    city = Experiment(tmp_path / "city").write()
    write_gallery(city.out, "crime", limit=0.001)
    page = city.render()
    text = section(page)
    assert "there is nothing to explain" in text
    assert "<img" not in text
    assert "<option selected>crime</option>" in page


def test_a_picture_that_is_none_is_named(tmp_path: Path) -> None:
    city = Experiment(tmp_path / "city").write()
    path = write_gallery(city.out, "income")
    (path / "3_heat.png").write_bytes(b"no picture")
    with pytest.raises(
        RunFileError, match=r"3_heat.png: not the file that .* run `make explain` again"
    ):
        city.render()


def test_the_numbers_stand_in_the_document(tmp_path: Path) -> None:
    city = Experiment(tmp_path / "city").write(targets=("income",), splits=("area",))
    write_gallery(city.out, "income")
    city.build()
    (row,) = json.loads((city.out / "report" / "report.json").read_text())["galleries"]
    assert row == {
        "target": "income",
        "cut": CUTS[0],
        "model": "ridge",
        "method": "exact",
        "limit": 2.5,
        "rank_correlation": 0.1,
    }
