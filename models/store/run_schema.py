"""The schema of `run.json`: a file that a stranger wrote is refused by what is wrong."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Checked(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _File(_Checked):
    sha256: str
    bytes: int


class _Entry(_Checked):
    key: str
    depends: dict[str, Any]
    is_nested: bool
    seconds: float = Field(ge=0, allow_inf_nan=False)
    area_r2: float | None = None


class _Run(_Checked):
    inputs: dict[str, Any] = {}
    files: dict[str, _File]
    cells: dict[str, _Entry] = {}
    chosen: dict[str, Any] = {}


def find_fault(run: dict[str, Any]) -> str:
    """Describe what is wrong with the content of a `run.json` of the newest schema; nothing where
    it can be used.
    """
    try:
        _Run.model_validate(run)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        message = problem["msg"]
        return f"{where}: {message[:1].lower()}{message[1:]}"
    cells = run.get("cells", {})
    if cells and not run.get("inputs"):
        return "inputs: field required"
    for target in cells:
        if target not in run.get("chosen", {}):
            return f"chosen.{target}: field required"
    return ""
