"""Errors of every command are one line that says what to do."""

from __future__ import annotations

import errno

import pytest

from extract.console import guarded


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
