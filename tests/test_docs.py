"""The pages of the documentation name what exists, and the picture of the packages is current."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_is_named_exists(page: Path) -> None:
    pattern = r"`((?:extract|models|reports|docs|tests|benchmarks|examples)/[\w./-]+)`"
    named = re.findall(pattern, page.read_text(encoding="utf-8"))
    written = re.compile(r"^models/<|\*")
    missing = [path for path in named if not written.search(path) and not (ROOT / path).exists()]
    assert missing == []


def test_every_command_of_the_makefile_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"`make ([a-z]+(?:-[a-z]+)*)\b[^`\n]*`", page.read_text()))
    assert named <= targets


def test_the_picture_of_the_packages_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import draw_packages

    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert draw_packages.draw() in text
    sys.modules.pop("draw_packages", None)


def test_the_reference_is_that_of_the_commands_and_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import write_reference

    docs = ROOT / "docs"
    remedy = "run `make reference`"
    assert write_reference.render_commands() == (docs / "commands.md").read_text("utf-8"), remedy
    assert write_reference.render_keys() == (docs / "keys.md").read_text("utf-8"), remedy
    assert write_reference.render_formats() == (docs / "formats.md").read_text("utf-8"), remedy
    sys.modules.pop("write_reference", None)


def test_every_command_of_roofline_that_is_named_exists() -> None:
    from roofline.cli import app

    known = {one.name for one in app.registered_commands}
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"\broofline ([a-z]+)(?= --| `|`| [A-Z])", page.read_text()))
    assert named <= known


def test_every_page_stands_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f": {page.name}" not in menu]
    assert missing == []


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_images_are_made_by_what_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(re.findall(r"(?:RUN make |\"make\", \")([a-z-]+)", text)) <= targets
    extras = set(re.findall(r"(?:EXTRA|WITH)=([a-z]+)", text))
    assert extras <= set(project["optional-dependencies"])
    assert project["requires-python"].removeprefix(">=") in text


PROSE = [page for page in PAGES if page.name not in ("commands.md", "keys.md", "formats.md")]


def test_every_command_stands_in_a_page_that_is_written_by_hand() -> None:
    from roofline.cli import app

    text = "\n".join(page.read_text(encoding="utf-8") for page in PROSE)
    known = {str(one.name) for one in app.registered_commands}
    missing = [name for name in known if not re.search(rf"\broofline {name}\b", text)]
    assert missing == []


def test_every_key_of_the_settings_stands_in_the_page_of_settings() -> None:
    from pydantic import BaseModel

    from reports.settings import ReportSettings

    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    keys = set()
    for name, field in ReportSettings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys |= set(section.model_fields)
        else:
            keys.add(name)
    missing = [key for key in sorted(keys) if not re.search(rf"[`\[ ,.]{key}[`\], .=]", text)]
    assert missing == []


def read_commands() -> list[str]:
    """Return the commands of roofline in blocks of code, each on one line."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.split("#")[0].strip() for line in lines]
    return sorted({line for line in found if line.startswith(("roofline ", "python -m "))})


def test_every_command_in_the_pages_has_options_that_exist() -> None:
    from typer.main import get_command

    import extract.cli
    import models.cli
    import reports.cli
    import roofline.cli

    apps = {
        "roofline": roofline.cli.app,
        "extract": extract.cli.app,
        "models": models.cli.app,
        "reports": reports.cli.app,
    }
    checked = 0
    for line in read_commands():
        words = shlex.split(line.removeprefix("python -m "))
        program, name = words[:2]
        if program not in apps or name.startswith("--"):
            continue
        command = get_command(apps[program]).commands[name]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        given = {word for word in words[2:] if word.startswith("-")}
        assert given <= known, line
        required = {one.opts[0] for one in command.params if one.required and one.opts[0][0] == "-"}
        short = {"-c": "--config"}
        assert required <= {short.get(word, word) for word in given}, line
        checked += 1
    assert checked > 20
