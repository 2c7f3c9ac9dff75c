"""What `run.json` has to say before anything is built on it: a file that a stranger wrote is
refused by what is wrong.
"""

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
        return (
            f"{'.'.join(map(str, problem['loc']))}: "
            f"{problem['msg'][:1].lower()}{problem['msg'][1:]}"
        )
    lost = ["inputs"] if run.get("cells") and not run.get("inputs") else []
    lost += [
        f"chosen.{target}" for target in run.get("cells", ()) if target not in run.get("chosen", ())
    ]
    return f"{lost[0]}: field required" if lost else ""
