"""The kept models of a target, and the one that is asked for among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from models.cells import Cell
from models.design import NONE
from models.keep import SCHEMA, SCHEMA_VERSION
from models.runs import read_document


class KeptError(ValueError):
    """No kept model is the one that is asked for; the text says which there are."""


class KeptModel(NamedTuple):
    """A kept model's folder, and what its `model.json` says."""

    path: Path
    facts: dict[str, Any]

    @property
    def cell(self) -> Cell:
        """The run that it was kept from."""
        return Cell(*(str(self.facts[name]) for name in ("split", "cut", "model")))

    @property
    def rank(self) -> float:
        """RMSE over areas, or for classes the balanced accuracy with a minus: the least is the best; infinite if unknown."""
        scores = [one for one in self.facts["scores"] if one.get("level") == "area"] or self.facts["scores"]
        first = scores[0] if scores else {}
        if first.get("rmse") is not None:
            return float(first["rmse"])
        return -float(first["balanced_accuracy"]) if first.get("balanced_accuracy") is not None else float("inf")


def read_kept(path: Path) -> KeptModel:
    """Read what a kept model's folder says of it; the model itself is `models.keep.load_model`'s to read.

    Raises
    ------
    RunError : unfinished or not there, or of another schema.
    """
    return KeptModel(path, read_document(path / "model.json", SCHEMA, SCHEMA_VERSION))


def list_kept(folder: Path, target: str) -> list[KeptModel]:
    """Give the finished kept models of a target, the best first."""
    paths = sorted((folder / "models" / target).glob("**/model.json"))
    return sorted((read_kept(p.parent) for p in paths), key=lambda one: one.rank)


def find_kept(folder: Path, target: str, *, model: str | None = None, cut: str | None = None, must_see: bool = True) -> KeptModel:
    """Give the best kept model of a target, of the model and the cut that are asked for.

    Parameters
    ----------
    must_see : only of those that see pictures.

    Raises
    ------
    KeptError : there is none; names those that there are.
    """
    kept = list_kept(folder, target)
    seeing = [one for one in kept if one.cell.cut != NONE or not must_see]
    found = [one for one in seeing if model in (None, one.cell.model) and cut in (None, one.cell.cut)]
    if found:
        return found[0]
    asked = " ".join(part for part in (model, f"on {cut}" if cut else "") if part)
    have = ", ".join(f"{one.cell.model} on {one.cell.cut}" for one in kept) or "none"
    blind = "; that sees no picture" if kept and not seeing else ""
    raise KeptError(f"target {target!r}: expected a kept model {asked or 'that sees pictures' * must_see}, got: {have}{blind}. "
                    "Ask for one of these, or keep others ([models] keep = [\"ridge\"], or \"all\") and run `make models`.")
