"""Areas without a label are counted, and explained where their codes tell why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extract.tables.area_codes import describe_match, select_new
from extract.tables.deprivation_indices import find_direction, recognise
from extract.tiling.labels import read_labels
from extract.tiling.options import Request


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


HEADER = [  # of File 7 of 2019, in part; a made file, since the published one is too large
    "LSOA code (2011)",
    "LSOA name (2011)",
    "Local Authority District code (2019)",
    "Index of Multiple Deprivation (IMD) Score",
    "Index of Multiple Deprivation (IMD) Decile (where 1 is most deprived 10% of LSOAs)",
    "Income Score (rate)",
    "Education, Skills and Training Score",
    "Barriers to Housing and Services Rank (where 1 is most deprived)",
    "Income Deprivation Affecting Children Index (IDACI) Score (rate)",
    "Total population: mid 2015 (excluding prisoners)",
]


def publish(path: Path, header: list[str]) -> Path:
    rows = [[f"E0100000{i}", f"Place {i}", "E09"] + [i + j / 10 for j in range(7)] for i in (1, 2)]
    pd.DataFrame(rows, columns=header).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("vintage", ["2011", "2021"])
def test_the_published_indices_are_taken_as_they_are(tmp_path: Path, vintage: str) -> None:
    header = [name.replace("2011", vintage) for name in HEADER]
    found = recognise(header)
    assert found is not None
    assert found.vintage == vintage
    assert set(found.columns) == {
        "imd", "imd_decile", "income", "education", "barriers_rank", "idaci",
    }  # fmt: skip
    request = Request(
        surface=tmp_path,
        out=tmp_path / "out",
        areas="lsoa.gpkg",
        area_code=f"LSOA{vintage[2:]}CD",
        labels=publish(tmp_path / "file7.csv", header),
        targets=("education", "imd_decile", "idaci"),
        groups=("Local Authority District code (2019)",),
    )
    labels = read_labels(request, np.array(["E01000001", "E01000002"], object))
    assert labels is not None
    assert list(labels.columns) == [*request.groups, *request.targets]
    assert labels.loc["E01000002", "education"] == "2.3"
    assert labels.loc["E01000001", "imd_decile"] == "1.1"


def test_other_labels_keep_their_names_and_directions_are_those_of_the_measure() -> None:
    assert recognise(["LSOA11CD", "income", "health"]) is None
    assert find_direction(["income", "imd"]) == "more deprived"
    assert find_direction(["income_rank", "imd_decile"]) == "less deprived"
    assert find_direction(["income", "imd_decile"]) is None
    assert find_direction(["rent"]) is None
