"""Write `commands.md`, `keys.md` and `formats.md` from commands, settings and writers of files.

Usage: PYTHONPATH=. python docs/write_reference.py          (or `make reference`)
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.main import get_command

from models.families.registry import BASELINES, FAMILIES, find_family
from reports.settings import ReportSettings
from roofline.cli import app

DOCS = Path(__file__).parent
ROOT = DOCS.parent
_NOT_SET = ("task", "seed", "n_jobs")  # what targets, [models] seed and threads decide


def render_commands() -> str:
    """Return the reference of all commands."""
    parts = [
        "# Commands\n\nWritten from the commands themselves. `roofline --install-completion` "
        "completes names in the shell.\n"
    ]
    group: Any = get_command(app)
    for name, command in group.commands.items():
        text = inspect.cleandoc(command.help or "")
        body, _, example = text.partition("Example: ")
        parts.append(f"## roofline {name}\n\n{body.strip()}\n")
        rows = [_describe_option(one) for one in command.params if one.name != "help"]
        if rows:
            parts.append("| option | meaning | default |\n|---|---|---|\n" + "\n".join(rows) + "\n")
        example = " ".join(example.split())
        parts.append(f"```sh\n{example}\n```\n")
    return "\n".join(parts)


def _describe_option(option: Any) -> str:
    names = ", ".join(option.opts) if option.param_type_name == "option" else option.name
    default = option.default
    shown = "" if default in (None, False) or callable(default) else f"`{default}`"
    if option.required:
        shown = "required"
    text = (getattr(option, "help", None) or "").replace("|", "\\|")
    return f"| `{names}` | {text} | {shown} |"


def render_keys() -> str:
    """Return the reference of all keys of a settings file."""
    parts = [
        "# Keys\n\nWritten from the models that read the settings file. [Settings](settings.md) "
        "says what the keys mean.\n"
    ]
    top = {}
    for name, field in ReportSettings.model_fields.items():
        section = _find_section(field.annotation)
        if section is None:
            top[name] = field
    parts.append("## Top of the file\n\n" + _render_table(top))
    for name, field in ReportSettings.model_fields.items():
        section = _find_section(field.annotation)
        if section is not None:
            table = _render_table(section.model_fields)
            parts.append(f"## [{name}]\n\n{_first_words(section)}\n\n{table}")
            parts += _render_nested(name, section)
    parts.append(_render_params())
    return "\n".join(parts)


def _find_section(annotation: Any) -> type[BaseModel] | None:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def _render_nested(name: str, section: type[BaseModel]) -> list[str]:
    """Return a table for each section that stands in a key of another."""
    parts = []
    for key, field in section.model_fields.items():
        for inner in _list_models(field.annotation):
            is_named = get_origin(field.annotation) is dict
            path = f"{name}.{key}.&lt;name&gt;" if is_named else f"{name}.{key}"
            parts.append(f"## [{path}]\n\n{_first_words(inner)}\n\n")
            parts[-1] += _render_table(inner.model_fields)
    return parts


def _list_models(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that stand anywhere in the type of a key."""
    section = _find_section(annotation)
    found = [] if section is None else [section]
    for one in get_args(annotation):
        found += _list_models(one)
    return found


def _render_params() -> str:
    """Return the parameters of every family, with what stands where they are left out."""
    lines = [
        "## [models.params.&lt;family&gt;]\n\nOf `finetune` it is `[models.params.finetune]`, "
        "whatever the backbone.\n",
        "| family | parameter | default |",
        "|---|---|---|",
    ]
    for family in BASELINES | FAMILIES:
        params = find_family(family)().get_params()
        for name, default in params.items():
            if name not in _NOT_SET:
                lines.append(f"| `{family}` | `{name}` | `{default!r}` |")
    return "\n".join(lines) + "\n"


def _first_words(documented: Any) -> str:
    return inspect.cleandoc(documented.__doc__ or "").split("\n\n")[0]


def render_formats() -> str:
    """Return the reference of all files that carry a schema and its version."""
    parts = [
        "# File formats\n\nWritten from the modules that write the files. [Files](files.md) says "
        "where they lie, and `roofline.<name>` and the version stand in each.\n"
    ]
    for path in list_writers():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        module = importlib.import_module(name)
        text = inspect.cleandoc(module.__doc__ or "")
        parts.append(
            f"## {module.SCHEMA}\n\nVersion {module.SCHEMA_VERSION}, by `{name}`.\n\n"
            f"```text\n{text}\n```\n"
        )
    return "\n".join(parts)


def list_writers() -> list[Path]:
    """Return the modules that own a format: they state `SCHEMA`."""
    found = []
    for package in ("extract", "models", "reports"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "\nSCHEMA = " in path.read_text(encoding="utf-8"):
                found.append(path)
    return found


def _render_table(fields: Any) -> str:
    lines = ["| key | type | default |", "|---|---|---|"]
    for name, field in fields.items():
        kind = _name_type(field.annotation).replace("|", "\\|")
        default = "required" if field.is_required() else _name_default(field)
        lines.append(f"| `{name}` | `{kind}` | {default} |")
    return "\n".join(lines) + "\n"


def _name_default(field: Any) -> str:
    default = field.default
    if default is None or default is PydanticUndefined:
        return ""
    return f"`{default!r}`".replace("|", "\\|")


def _name_type(annotation: Any) -> str:
    arguments = get_args(annotation)
    if not arguments:
        return str(getattr(annotation, "__name__", annotation))
    names = [repr(one) if isinstance(one, str) else _name_type(one) for one in arguments]
    kind = getattr(annotation, "__name__", "")
    if kind in ("list", "dict", "tuple"):
        return f"{kind} of {', '.join(names)}"
    if kind == "Annotated":
        return names[0]
    return " or ".join(name for name in names if name != "NoneType")


if __name__ == "__main__":
    (DOCS / "commands.md").write_text(render_commands(), encoding="utf-8")
    (DOCS / "formats.md").write_text(render_formats(), encoding="utf-8")
    (DOCS / "keys.md").write_text(render_keys(), encoding="utf-8")
