"""Kept models on disk: `models/<target>/<cut>/<model>/`, in formats that run no code.

Schema `roofline.model`, version 8. Older ones had no intervals (1 and 2), did not say how their
features were made (3 and 4), had no hash of what `model.json` says (5), or name classes and
parameters as they are no longer called and hold no area of applicability (6 and 7); all are refused
and fitted again. To raise it: add one to `SCHEMA_VERSION`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from extract.config.cuts import CellCut, Cut, parse_cell_cut, parse_cut
from extract.errors import KeptModelError, RunFileError
from extract.files.atomic import name_place
from extract.files.names import encode_name
from models.data.model_names import ModelSpec, parse_model
from models.families.estimator_files import read_estimators
from models.families.estimator_settings import EstimatorSection
from models.families.family import Family
from models.families.pca import Reduced
from models.families.registry import BASELINES, FAMILIES
from models.families.training_rows import Task
from models.store.cells import Cell
from models.store.documents import describe_file, read_document, write_json
from models.store.model_folder import check_seal, check_sealed
from models.store.model_readme import describe_model
from models.store.runs import place_cell
from models.store.seal import seal

SCHEMA = "roofline.model"
SCHEMA_VERSION = 8
TRUSTED = [
    "models.families.baselines.Location",
    "models.families.baselines.Mean",
    "models.families.baselines.Region",
    "models.families.linear.margins.Logistic",
    "models.families.linear.margins.SupportVectors",
    "models.families.linear.ridge.SharedRidge",
    "models.families.nearest_neighbours.Neighbours",
    "models.families.trees.forest.ExtraTrees",
    "models.families.trees.forest.Forest",
    "sklearn.tree._tree.Tree",
]

_STATED: dict[type, tuple[str, ...]] = {
    str: ("target", "task", "cut", "split", "model", "key"),
    list: ("classes", "scores", "coverage"),
    dict: ("settings", "feed", "training", "look", "made", "intervals", "files"),
}


class KeptModel(NamedTuple):
    """A kept model's folder, and what its `model.json` says."""

    path: Path
    facts: dict[str, Any]

    @property
    def cell(self) -> Cell:
        """The run that it was kept from."""
        split = str(self.facts["split"])
        cut = parse_cell_cut(str(self.facts["cut"]))
        return Cell(split, cut, str(self.facts["model"]))

    @property
    def cut(self) -> Cut:
        """The cut that the model is fed.

        Raises
        ------
        KeptModelError : it is fed none.
        """
        cut = self.cell.cut
        if not isinstance(cut, Cut):
            raise KeptModelError(
                f"{self.path}: expected a model that sees pictures, got {self.cell}."
            )
        return cut

    @property
    def parts(self) -> list[Cut]:
        """The cuts whose columns the model is fed side by side; none of a baseline."""
        cut = self.cell.cut
        if not isinstance(cut, Cut):
            return []
        return [parse_cut(text) for text in self.facts["feed"].get("joined", [str(cut)])]

    @property
    def rank(self) -> float:
        """RMSE over areas, or for classes the balanced accuracy with a minus: the least is the
        best; infinite if unknown.
        """
        every = self.facts.get("scores", [])
        of_areas = [one for one in every if one.get("level") == "area"]
        for scores in [*of_areas, *every]:
            if scores.get("rmse") is not None:
                return float(scores["rmse"])
            if scores.get("balanced_accuracy") is not None:
                return -float(scores["balanced_accuracy"])
        return float("inf")


def read_kept(folder: Path, path: Path) -> KeptModel:
    """Read what a kept model's folder says of it.

    Parameters
    ----------
    folder : of the experiment.

    Raises
    ------
    RunFileError : unfinished or not there, of another schema, changed since it was written, or in
        the folder of another target, cut or model.
    """
    facts = read_document(path / "model.json", SCHEMA, SCHEMA_VERSION)
    # older ones may have no seal, and are refused where they are asked for
    if facts["schema_version"] == SCHEMA_VERSION:
        check_seal(path, facts)
    names = [facts.get(name) for name in ("target", "cut", "model")]
    is_stated = all(isinstance(name, str) for name in names)
    if is_stated and model_folder(folder, *map(str, names)) != path:
        target, cut, model = names
        raise RunFileError(
            f"{path}: holds {model!r} on {cut!r} of {target!r}, which is kept in another folder. "
            "Run `make models` again to rebuild both folders."
        )
    return KeptModel(path, facts)


def list_kept(folder: Path, target: str) -> list[KeptModel]:
    """Return the finished kept models of a target, the best first."""
    of_target = folder / "models" / encode_name(target)
    paths = sorted(of_target.glob("**/model.json"))
    kept = [read_kept(folder, path.parent) for path in paths]
    return sorted(kept, key=lambda one: one.rank)


def check_stated(kept: KeptModel) -> KeptModel:
    """Return a kept model whose `model.json` says all that is needed to ask it.

    Raises
    ------
    RunFileError : kept by an older Roofline, or something is missing or of another kind.
    """
    _check_version(kept.path, kept.facts)
    for kind, names in _STATED.items():
        for name in names:
            if not isinstance(kept.facts.get(name), kind):
                raise RunFileError(
                    f"{kept.path / 'model.json'}: expected a {kind.__name__} as {name!r}, got "
                    f"{kept.facts.get(name)!r:.60}. Do not trust this folder; run `make models` "
                    "again."
                )
    return kept


def _check_version(path: Path, facts: dict[str, Any]) -> None:
    version = facts["schema_version"]
    if version < SCHEMA_VERSION:
        raise RunFileError(
            f"{path}: kept by an older Roofline (schema version {version}). "
            "Run `make models` again: it is fitted anew."
        )


def find_kept(
    folder: Path,
    target: str,
    *,
    model: str | None = None,
    cut: str | None = None,
    must_see: bool = True,
) -> KeptModel:
    """Return the best kept model of a target, of the model and the cut that are asked for.

    Parameters
    ----------
    must_see : only of those that see pictures.

    Raises
    ------
    KeptModelError : there is none; names those that there are.
    RunFileError : kept by an older Roofline, or its `model.json` lacks what it has to say.
    """
    kept = list_kept(folder, target)
    seeing = [one for one in kept if isinstance(one.cell.cut, Cut) or not must_see]
    found = [
        one
        for one in seeing
        if model in (None, one.cell.model) and cut in (None, str(one.cell.cut))
    ]
    if found:
        return check_stated(found[0])
    if not kept:
        raise KeptModelError(
            f"target {target!r}: no model of it is kept yet. Run `make models` first."
        )
    asked = " ".join(part for part in (model, f"on {cut}" if cut else "") if part)
    have = ", ".join(f"{one.cell.model} on {one.cell.cut}" for one in kept)
    blind = ", which sees no picture" if not seeing else ""
    raise KeptModelError(
        f"target {target!r}: expected a kept model {asked or 'that sees pictures'}, got: "
        f"{have}{blind}. "
        'Ask for one of these, or keep others ([models] keep = ["ridge"], or "all") and run `make '
        "models`."
    )


def read_key(path: Path) -> str | None:
    """Return the key of a kept model that is whole, as far as its files' sizes tell; else None."""
    try:
        facts = read_document(path / "model.json", SCHEMA, SCHEMA_VERSION)
    except RunFileError:
        return None
    if facts["schema_version"] != SCHEMA_VERSION or not facts.get("files"):
        return None
    for name, stated in facts["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != stated["bytes"]:
            return None
    return str(facts["key"])


class Savable(Protocol):
    """What can write files of its own into a model's folder."""

    def save(self, path: Path) -> None:
        """Write the files."""


def model_folder(folder: Path, target: str, cut: CellCut | str, model: str) -> Path:
    """Folder of a kept model."""
    return folder / "models" / encode_name(target) / place_cell(cut, model)


def save_model(
    path: Path,
    name: str,
    model: Family,
    facts: dict[str, Any],
    *,
    applicability: Savable | None = None,
) -> None:
    """Write the model and its card, then `model.json` with the hashes of its files: without it the
    model is unfinished.
    """
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    card = describe_model(name, facts)
    with name_place(path):
        _save_files(path, model)
        if applicability is not None:
            applicability.save(path)
        (path / "README.md").write_text(card, encoding="utf-8")
    files = {file.name: describe_file(file) for file in sorted(path.iterdir())}
    header = {"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "model": name}
    write_json(path / "model.json", seal({**header, **facts, "files": files}))


def _save_files(path: Path, model: Family) -> None:
    if isinstance(model, Reduced):
        model.save_axes(path)
        _save_files(path, model.fitted_)
    elif hasattr(model, "save"):
        model.save(path)
    else:
        import skops.io  # slow to load, and a run with nothing to do should not

        skops.io.dump(model, path / "model.skops")


def load_model(path: Path, estimators: Mapping[str, EstimatorSection] | None = None) -> Family:
    """Read a kept model; only the types of this project are trusted.

    Parameters
    ----------
    estimators : those of the reader's settings: of packages, what they name is imported alone.

    Raises
    ------
    RunFileError : unfinished or not there, another schema version, a file that is not the one
        written, a type that is not trusted, or an estimator that the settings do not name.
    """
    facts = read_document(path / "model.json", SCHEMA, SCHEMA_VERSION)
    _check_version(path, facts)
    check_seal(path, facts)
    check_sealed(path, facts)
    try:
        spec = parse_model(str(facts.get("model")))
        if spec.family in BASELINES or spec.family in FAMILIES:
            model = _load_file(path, spec)
        else:
            model = _load_estimator(path, spec, facts, estimators or {})
        return Reduced.load_axes(path, model) if spec.pca else model
    except RunFileError:
        raise
    except Exception as error:  # what a stranger wrote can fail in any way
        raise RunFileError(
            f"{path}: not a model that this Roofline can read ({type(error).__name__}: {error}). "
            "Delete it and run "
            "`make models` again."
        ) from error


def _load_estimator(
    path: Path,
    spec: ModelSpec,
    facts: dict[str, Any],
    estimators: Mapping[str, EstimatorSection],
) -> Family:
    name = spec.family
    if name not in estimators:
        raise RunFileError(
            f"{path}: a model of an estimator {name!r}, which these settings do not name. Reading "
            f"it runs code of the estimator's package: write [models.estimators.{name}] as it was "
            "fitted, if you trust that."
        )
    task: Task = "class" if facts.get("task") == "class" else "number"
    return read_estimators(path, estimators[name].build(seed=0, task=task))


def _load_file(path: Path, spec: ModelSpec) -> Family:
    own = FAMILIES.get(spec.family)
    if own is not None and hasattr(own, "load"):
        return own.load(path)
    import skops.io

    file = path / "model.skops"
    strange = sorted(set(skops.io.get_untrusted_types(file=file)) - set(TRUSTED))
    if strange:
        raise RunFileError(
            f"{file}: holds {', '.join(strange)}, which this project never writes. Do not trust "
            "this file."
        )
    model = skops.io.load(file, trusted=TRUSTED)
    wanted = own or BASELINES[spec.family]
    if type(model) is not wanted:
        raise RunFileError(
            f"{file}: holds a {type(model).__name__}, and model.json says {spec.family!r}. Do not "
            "trust this file."
        )
    loaded: Family = model
    loaded.check_loaded()
    return loaded
