"""Errors of every command are one line that says what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from extract.console import guarded
from extract.files.atomic import name_place, write_atomically
from extract.store.shards import reserve_space


def fail(error: Exception, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended, guarded(traceback=False, interrupted=""):
        raise error
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_says_so_and_what_to_do(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    said = fail(OSError(code, "Error writing bytes to file. Detail: x", "a/b.csv"), capsys)
    assert said.startswith("error: a/b.csv: ")
    assert said.endswith("Make room, and give the same command again: what is finished is kept.\n")
    assert "Detail" not in said


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.csv"
    with pytest.raises(OSError, match="No space") as failed, write_atomically(path):
        refuse()
    assert failed.value.filename == str(path)
    shard = tmp_path / "part.h5"
    shard.touch()
    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(OSError, match="No space") as failed:
        reserve_space(shard, 10)
    assert failed.value.filename == str(shard)
    with pytest.raises(FileNotFoundError) as lost, name_place(tmp_path):
        (tmp_path / "gone").read_bytes()
    assert Path(lost.value.filename).name == "gone"


@pytest.mark.parametrize(
    ("module", "wanted"),
    [("xgboost", "-c constraints.txt -e '.[cpu]'"), ("no_such_package.parts", "no_such_package")],
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    module: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    package = module.partition(".")[0]
    said = fail(ModuleNotFoundError(f"No module named {module!r}", name=module), capsys)
    assert said == (
        f"error: {package} is not installed, and is needed here. Run `pip install {wanted}`.\n"
    )


def test_other_errors_say_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        fail(OSError(errno.ENOENT, "No such file", "a"), capsys)
        == "error: [Errno 2] No such file: 'a'\n"
    )
    assert fail(ValueError(), capsys) == "error: ValueError\n"
