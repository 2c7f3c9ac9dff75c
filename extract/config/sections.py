"""Read sections of a settings file strictly, and say what is wrong with a value."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import ErrorDetails

from extract.config.suggestions import suggest

T = TypeVar("T")

_EXPECTED = {
    "int_type": "a whole number, without quotes",
    "float_type": "a number, without quotes",
    "bool_type": "true or false",
}


class Strict(BaseModel):
    """A section: unknown keys are errors, a value has the type that is asked for, and stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def check_once(value: list[T]) -> list[T]:
    """Return a list back, or refuse it where something stands in it twice.

    Raises
    ------
    ValueError : names what does.
    """
    twice = {str(one) for one in value if value.count(one) > 1}
    if twice:
        listed = ", ".join(sorted(twice))
        raise ValueError(f"{listed} is listed twice: name each once")
    return value


def resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Return a path of a settings file as an absolute one; the context holds the file's folder."""
    base: Path | None = info.context
    return base / path.expanduser() if base else path


OnceEach = AfterValidator(check_once)
SettingsPath = Annotated[Path, Field(strict=False), AfterValidator(resolve_path)]


def describe_problem(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Return one pydantic error as a line: [section] key, what, expected, got, remedy."""
    kind = problem["type"]
    names = [name for name in problem["loc"] if isinstance(name, str)]
    section = f"[{names[0]}] " if len(names) > 1 else ""
    key = ".".join(names[1:] or names)
    where = f"{section}{key}: " if key else ""
    if kind == "extra_forbidden":
        known = _list_keys(model, names[:-1])
        parents = "".join(f"{name}." for name in names[1:-1])
        hint = suggest(names[-1], known)
        listed = ", ".join(known)
        return f"{section}{parents}unknown key {names[-1]!r}; known: {listed}.{hint}"
    if kind == "missing":
        return f"{where}missing; the key has to be set"
    if kind == "value_error":
        error = problem["ctx"]["error"]
        return f"{where}{error}"
    message = problem["msg"]
    message = message[:1].lower() + message[1:]
    if kind in _EXPECTED:
        message = f"expected {_EXPECTED[kind]}"
    given = problem["input"]
    return f"{where}{message}, got {given!r}"


def _list_keys(model: type[BaseModel], sections: list[str]) -> list[str]:
    """List the keys that a section knows."""
    for section in sections:
        annotation = model.model_fields[section].annotation
        kinds = get_args(annotation) or (annotation,)  # `Section | None`, or `Section`
        model = next(kind for kind in kinds if kind is not type(None))
    return list(model.model_fields)
