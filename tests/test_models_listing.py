"""The grid on the terminal: every name whole at 80 columns, and tabs for other programs."""

from __future__ import annotations

import pytest

from extract.console import print_tabs
from models.cli_output import block_runs

COLUMNS = ("split", "cut", "model", "done", "stale", "missing", "seconds", "why stale")
NARROW = (
    "random",
    "resnet50v2/conv4_block6_out:avg",
    "ridge+groups@area",
    "7",
    "0",
    "0",
    "1234.5",
    "",
)
STALE = (
    "block",
    "efficientnetv2b0/block6h_expand_activation:avg",
    "finetune:mobilenetv3large",
    "0",
    "7",
    "2",
    "9.5",
    "the labels of income changed (2)",
)


def test_at_80_columns_every_name_is_whole_and_no_line_is_longer() -> None:
    lines = list(block_runs(COLUMNS, [NARROW, STALE], 80))
    assert max(map(len, lines)) <= 80
    for row in (NARROW, STALE):
        assert all(any(cell in line for line in lines) for cell in row)


def test_reasons_stand_beside_where_there_is_room_and_below_where_there_is_none() -> None:
    wide, narrow = (list(block_runs(COLUMNS, [STALE], width)) for width in (120, 80))
    assert wide[-1].endswith(f"9.5  {STALE[-1]}")
    assert narrow[-2].endswith("9.5")
    assert narrow[-1].strip() == STALE[-1]


def test_runs_of_a_cut_stand_under_one_name_of_it() -> None:
    lines = list(block_runs(COLUMNS, [NARROW, (*NARROW[:2], "knn", *NARROW[3:]), STALE], 80))
    assert [line for line in lines if line.startswith("cut")] == [
        f"cut {NARROW[1]}",
        f"cut {STALE[1]}",
    ]


def test_another_program_reads_a_heading_and_a_line_a_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_tabs(COLUMNS, [NARROW, STALE])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["\t".join(row) for row in (COLUMNS, NARROW, STALE)]
