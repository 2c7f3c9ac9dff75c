"""Read sections of a settings file strictly, and say what is wrong with a value."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

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
    counts = Counter(map(str, value))
    twice = [one for one, n in counts.items() if n > 1]
    if twice:
        listed = ", ".join(sorted(twice))
        raise ValueError(f"{listed} is listed twice: name each once")
    return value


def resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Return a path of a settings file as an absolute one; the context holds the file's folder.

    Raises
    ------
    ValueError : no path of any file.
    """
    if "\0" in str(path):
        raise ValueError("a path cannot hold the character NUL: remove it")
    base = info.context or Path()
    return base / path.expanduser()


OnceEach = AfterValidator(check_once)
SettingsPath = Annotated[Path, Field(strict=False), AfterValidator(resolve_path)]


def describe_problem(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Return one pydantic error as a line: [section] key, what, expected, got, remedy."""
    kind = problem["type"]
    names = [name for name in problem["loc"] if isinstance(name, str)]
    if kind == "extra_forbidden":
        *parents, unknown = names
        known = _list_keys(model, parents)
        listed = ", ".join(known)
        where = _name_key([*parents, "unknown key"])
        return f"{where} {unknown!r}; known: {listed}.{suggest(unknown, known)}"
    text = _describe_value(problem)
    if not names:
        return text
    return f"{_name_key(names)}: {text}"


def _name_key(names: list[str]) -> str:
    """Return a key as `[section] part.key`, one at the top of the file as it is."""
    if len(names) == 1:
        return names[0]
    section, *parts = names
    key = ".".join(parts)
    return f"[{section}] {key}"


def _describe_value(problem: ErrorDetails) -> str:
    """Return what is wrong with a value."""
    kind = problem["type"]
    if kind == "missing":
        return "missing; the key has to be set"
    if kind == "value_error":
        error = problem["ctx"]["error"]
        return str(error)
    given = problem["input"]
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {given!r}"
    message = problem["msg"]
    first = message[:1].lower()
    return f"{first}{message[1:]}, got {given!r}"


def _list_keys(model: type[BaseModel], sections: list[str]) -> list[str]:
    """List the keys that a section knows."""
    waiting = iter(sections)
    for section in waiting:
        annotation = model.model_fields[section].annotation
        kinds: tuple[Any, ...] = get_args(annotation) or (annotation,)  # of `Section | None`
        model = kinds[0]
        if get_origin(annotation) is dict:
            next(waiting, None)  # the name of one of many sections
            model = kinds[1]
    return list(model.model_fields)
