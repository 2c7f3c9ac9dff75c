"""The kept models of a target, and the one that is asked for among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from extract.config.cuts import Cut, parse_cell_cut
from extract.errors import KeptModelError, RunFileError
from models.execution.keep_models import SCHEMA, SCHEMA_VERSION
from models.store.cells import Cell
from models.store.model_folder import check_seal
from models.store.runs import read_document

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
    def rank(self) -> float:
        """RMSE over areas, or for classes the balanced accuracy with a minus: the least is the best; infinite if unknown."""
        every = self.facts.get("scores", [])
        scores = [one for one in every if one.get("level") == "area"] or every
        first = scores[0] if scores else {}
        if first.get("rmse") is not None:
            return float(first["rmse"])
        return (
            -float(first["balanced_accuracy"])
            if first.get("balanced_accuracy") is not None
            else float("inf")
        )


def read_kept(path: Path) -> KeptModel:
    """Read what a kept model's folder says of it; the model itself is `models.execution.keep_models.load_model`'s to read.

    Raises
    ------
    RunFileError : unfinished or not there, of another schema, or changed since it was written.
    """
    facts = read_document(path / "model.json", SCHEMA, SCHEMA_VERSION)
    if (
        facts["schema_version"] == SCHEMA_VERSION
    ):  # older ones had no seal, and are refused where they are asked for
        check_seal(path, facts)
    return KeptModel(path, facts)


def list_kept(folder: Path, target: str) -> list[KeptModel]:
    """Return the finished kept models of a target, the best first."""
    paths = sorted((folder / "models" / target).glob("**/model.json"))
    return sorted((read_kept(p.parent) for p in paths), key=lambda one: one.rank)


def check_stated(kept: KeptModel) -> KeptModel:
    """Return a kept model whose `model.json` says all that is needed to ask it.

    Raises
    ------
    RunFileError : kept by an older Roofline, or something is missing or of another kind.
    """
    if kept.facts["schema_version"] < SCHEMA_VERSION:
        raise RunFileError(
            f"{kept.path}: kept by an older Roofline (schema version {kept.facts['schema_version']}). Run `make "
            "models` again: it is fitted anew."
        )
    for kind, names in _STATED.items():
        for name in names:
            if not isinstance(kept.facts.get(name), kind):
                raise RunFileError(
                    f"{kept.path / 'model.json'}: expected a {kind.__name__} as {name!r}, got "
                    f"{kept.facts.get(name)!r:.60}. Do not trust this folder; run `make models` again."
                )
    return kept


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
        f"target {target!r}: expected a kept model {asked or 'that sees pictures'}, got: {have}{blind}. "
        'Ask for one of these, or keep others ([models] keep = ["ridge"], or "all") and run `make models`.'
    )
