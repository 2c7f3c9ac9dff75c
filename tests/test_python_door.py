"""What `import extract, models, reports` gives in a notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from made_experiment import make_experiment
from nbclient import NotebookClient
from sklearn.linear_model import Ridge

import extract
import models
import reports
from extract.settings import read_settings
from models.fit import fit_all
from models.settings import FitSettings

ROOT = Path(__file__).resolve().parents[1]
CUT = "net/last:avg"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an experiment that was fitted."""
    path = make_experiment(tmp_path_factory.mktemp("door") / "town")
    fit_all(read_settings(path, FitSettings))
    return path.parent / "out"


@pytest.mark.parametrize("package", [extract, models, reports])
def test_every_public_name_is_there_and_documented(package) -> None:
    for name in package.__all__:
        assert name in dir(package)
        assert getattr(package, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_importing_the_packages_loads_nothing() -> None:
    code = (
        "import sys, extract, models, reports; "
        "assert not {'numpy', 'pandas', 'keras', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_embeddings_are_an_array_ids_and_a_frame(town: Path) -> None:
    embeddings = extract.open_embeddings(str(town))
    assert CUT in embeddings
    assert len(embeddings) == 3
    cut = embeddings[CUT]
    assert cut.array.shape == (100, 6)
    np.testing.assert_array_equal(cut.ids, np.arange(100))
    assert np.isnan(cut.array[3]).all()
    assert 3 not in cut.frame.index
    np.testing.assert_array_equal(cut.frame.loc[50], cut.array[50])
    assert np.asarray(cut).shape == (100, 6)
    assert repr(cut) == f"<{CUT}: 100 tiles of 6>"


def test_settings_lead_to_the_same_embeddings(town: Path) -> None:
    embeddings = extract.open_embeddings(town.parent / "s.toml")
    assert list(embeddings) == ["net/first:avg", CUT, "net/mid:avg"]


def test_what_is_not_there_is_said_as_in_the_terminal(town: Path, tmp_path: Path) -> None:
    with pytest.raises(extract.RooflineError, match=r"no such folder. Name the folder"):
        extract.open_embeddings(tmp_path / "nothing")
    with pytest.raises(extract.RooflineError, match="Run `roofline features` first"):
        extract.open_embeddings(tmp_path)
    with pytest.raises(extract.RooflineError, match=r"Did you mean 'net/last:avg'\?"):
        extract.open_embeddings(town)["net/lost:avg"]
    with pytest.raises(extract.RooflineError, match="Run `make models` first"):
        models.read_scores(tmp_path)
    with pytest.raises(extract.RooflineError, match="no predictions of 'income'"):
        models.read_predictions(town, "income")
    with pytest.raises(extract.RooflineError, match="expected 'tile' or 'area'"):
        models.read_predictions(town, "income", level="town")
    with pytest.raises(extract.RooflineError, match="Run `roofline report` first"):
        reports.show(town)


def test_scores_are_those_of_the_file(town: Path) -> None:
    scores = models.read_scores(town)
    expected = pd.read_csv(town / "scores.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(scores[expected.columns.tolist()], expected)


def test_a_kept_model_predicts_as_ridge_of_the_same_penalty_does(town: Path) -> None:
    kept = models.load_model(town.parent / "s.toml", "income", model="ridge")
    frame = extract.open_embeddings(town)[kept.cut].frame
    predicted = kept.predict(frame)
    assert predicted.shape == (99,)
    table = pd.read_csv(town.parent / "t.csv").set_index("id").loc[frame.index]
    best = Ridge(alpha=1e-3).fit(frame, table["income"]).predict(frame)
    assert np.corrcoef(predicted, best)[0, 1] > 0.99
    from_folder = models.load_model(town, "income", model="ridge")
    np.testing.assert_array_equal(from_folder.predict(frame), predicted)
    assert repr(kept) == f"<ridge on {CUT} for income>"


def test_features_that_a_model_cannot_take_are_refused(town: Path) -> None:
    kept = models.load_model(town, "income", model="ridge")
    with pytest.raises(extract.RooflineError, match="NaN or infinity in X"):
        kept.predict(extract.open_embeddings(town)[kept.cut].array)
    with pytest.raises(extract.RooflineError, match="expected X of"):
        kept.predict(np.zeros(6))
    with pytest.raises(extract.RooflineError, match="expected 6 features of net/last:avg, got 5"):
        kept.predict(np.zeros((1, 5)))
    with pytest.raises(extract.RooflineError, match="predicts numbers"):
        kept.predict_proba(np.zeros((1, 6)))


def test_a_report_is_a_frame_with_the_whole_page(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text('<p class="a">R² & more</p>')
    shown = reports.show(tmp_path, height=300)
    frame = shown._repr_html_()
    assert 'srcdoc="&lt;p class=&quot;a&quot;&gt;R² &amp; more&lt;/p&gt;"' in frame
    assert 'height="300"' in frame


@pytest.mark.slow  # starts a process of its own
def test_the_notebook_runs(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    codes[0].source = f"experiment = {str(town)!r}"
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    listed = codes[1].outputs[0]["data"]["text/plain"]
    assert listed == "['net/first:avg', 'net/last:avg', 'net/mid:avg']"
    assert "for income>" in codes[-1].outputs[0]["data"]["text/plain"]


@pytest.mark.parametrize(
    ("model", "taken"), [("ridge@area", "the mean of all tiles"), ("ridge+groups", "group columns")]
)
def test_models_that_take_more_than_single_tiles_are_refused(
    tmp_path: Path, model: str, taken: str
) -> None:
    path = make_experiment(tmp_path / "town", names=[model], keep="all", splits=["area"])
    fit_all(read_settings(path, FitSettings))
    with pytest.raises(extract.RooflineError, match=f"takes {taken}.*name a kept model"):
        models.load_model(path.parent / "out", "income")
