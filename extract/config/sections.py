"""Sections of a settings file that take nothing but what they know, and what is said of a value that cannot be used."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from extract.config.suggestions import suggest

T = TypeVar("T")


class Strict(BaseModel):
    """A section: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _as_written(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse numbers in quotes, and true or false that are none or stand where a number does."""
        kinds = _leaves(cls.model_fields[str(info.field_name)].annotation)
        values = value if isinstance(value, list | tuple) else [value]
        if kinds == {bool} and not isinstance(value, bool):
            raise ValueError(f"expected true or false, got {value!r}")
        if kinds <= {int, float, type(None)} and any(isinstance(one, str | bool) for one in values):
            raise ValueError(
                f"expected {'numbers' if values is value else 'a number'}, without quotes, got {value!r}"
            )
        return value


def check_once(value: list[T]) -> list[T]:
    """Return a list back, or refuse it where something stands in it twice.

    Raises
    ------
    ValueError : names what does.
    """
    twice = sorted({str(one) for one in value if value.count(one) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)} is listed twice: name each once")
    return value


def describe_problem(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Turn one pydantic error into a line: [section] key, what, expected, got, remedy."""
    *parents, key = problem["loc"] or ("",)
    where = "".join(
        f"[{p}] " if i == 0 else f"{p}." for i, p in enumerate(parents) if isinstance(p, str | int)
    )
    if problem["type"] == "extra_forbidden":
        known = _fields(model, parents)
        return f"{where}unknown key {key!r}; known: {', '.join(known)}.{suggest(str(key), known)}"
    if problem["type"] == "missing":
        return f"{where}{key}: missing; the key has to be set"
    if problem["type"] == "value_error":
        return f"{where}{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    return f"{where}{key}: {_lower(problem['msg'])}, got {problem['input']!r}"


def _fields(model: type[BaseModel], parents: list[Any]) -> list[str]:
    for parent in parents:
        annotation = model.model_fields[str(parent)].annotation
        classes = [
            c
            for c in (annotation, *get_args(annotation))
            if isinstance(c, type) and issubclass(c, BaseModel)
        ]
        if not classes:
            return []
        model = classes[0]
    return list(model.model_fields)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _leaves(annotation: Any) -> set[Any]:
    """Return the types that a value, or the values in it, may have."""
    if get_origin(annotation) is Literal or not get_args(annotation):
        return {annotation}
    args = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return set().union(*(_leaves(arg) for arg in args if arg is not ...))
