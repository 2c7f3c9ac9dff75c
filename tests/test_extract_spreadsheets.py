"""What spreadsheets would take for formulas is quoted; all else stays."""

from __future__ import annotations

import pandas as pd

from extract.tables.spreadsheets import quote_formulas


def test_texts_that_begin_as_formulas_are_quoted_and_numbers_and_others_are_not():
    table = pd.DataFrame(
        {
            "=area": ["=HYPERLINK(1)", "+44 area", "-x", "@SUM(1)", "A=1", None],
            "id": ["-1", "+2.5", "-1e-9", "", "\t=1", "E01"],
            "value": [-1.0, 2.0, None, 0.5, -0.5, 1.0],
        }
    )
    quoted = quote_formulas(table)
    assert list(quoted) == ["'=area", "id", "value"]
    texts = ["'=HYPERLINK(1)", "'+44 area", "'-x", "'@SUM(1)", "A=1"]
    assert quoted["'=area"].tolist()[:5] == texts
    assert quoted["'=area"].isna().tolist() == 5 * [False] + [True]
    assert quoted["id"].tolist() == ["-1", "+2.5", "-1e-9", "", "'\t=1", "E01"]
    pd.testing.assert_series_equal(quoted["value"], table["value"])
