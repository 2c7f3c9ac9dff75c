"""Areas without a label are counted, and explained where their codes tell why."""

from __future__ import annotations

import pytest

from extract.tables.area_codes import describe_match, select_new


@pytest.mark.parametrize(
    ("areas", "labels", "expected"),
    [
        (["E01000001", "E01000002"], ["E01000002", "E01000001", "E01000009"], ""),
        (
            ["E01000001", "E01000002", "E01033801", "E01033802"],
            ["E01000001", "E01000002", "E01000003"],
            "2 of 4 areas have no label (E01033801 …); 1 label has no area. E01033801 exists only "
            "since 2021, and no label does: take labels by LSOA 2021",
        ),
        (
            ["E01000001", "E01000003"],
            ["E01000001", "E01033801", "E01033802"],
            "1 of 2 areas has no label (E01000003 …); 2 labels have no area. Labels are by LSOA "
            "2021: take boundaries of that year",
        ),
        (
            ["01001", "10001", "04013", "12086"],
            ["1001", "10001", "4013", "12086"],
            "2 of 4 areas have no label (01001 …); 2 labels have no area. Is '1001' '01001'? Save "
            "the codes as text, with their zeros",
        ),
        (["a", "b"], ["a"], "1 of 2 areas has no label (b …); 0 labels have no area"),
    ],
)
def test_what_does_not_match_is_counted_and_explained(areas, labels, expected):
    assert describe_match(areas, labels) == expected


def test_first_codes_of_2021_are_new_and_those_before_may_be_of_either():
    codes = ["E01033768", "E01033769", "W01001958", "W01001959", "E02033769", "x"]
    assert select_new(codes) == ["E01033769", "W01001959"]
