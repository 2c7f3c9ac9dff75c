"""Write `commands.md` and `keys.md` from the commands and from the settings themselves.

Usage: PYTHONPATH=. python docs/write_reference.py          (or `make reference`)
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.main import get_command

from reports.settings import ReportSettings
from roofline.cli import app

DOCS = Path(__file__).parent


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
            doc = inspect.cleandoc(section.__doc__ or "").split("\n\n")[0]
            parts.append(f"## [{name}]\n\n{doc}\n\n" + _render_table(section.model_fields))
    return "\n".join(parts)


def _find_section(annotation: Any) -> type[BaseModel] | None:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


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
    (DOCS / "keys.md").write_text(render_keys(), encoding="utf-8")
