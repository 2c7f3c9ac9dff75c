"""Numbers that stand in tables as text, in the ways that people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import pyarrow as pa

from extract.config.arrays import Bools, Floats

NO_NUMBER = ("", "na", "nan", "n/a", "null", "none")  # what stands for a number that is missing
_BLANKS = "[ \u00a0\u2009\u202f]"
_APOSTROPHES = "['\u2019]"
_WITH_UNIT = r"^[-+\u2212]?[\d., ]*\d ?([^\W\d_]{2,}[/\d]*)$"  # the unit of a number, as `km2`
_SEPARATORS = {" ": _BLANKS, "'": _APOSTROPHES}


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """How the numbers of a column are written.

    Attributes
    ----------
    decimal : the mark before the fraction.
    thousands : the mark between groups of three digits, '' for none.
    percent : whether values may end with '%'; `12%` is then 12.
    """

    decimal: str = "."
    thousands: str = ""
    percent: bool = False

    def __str__(self) -> str:
        """Return the settings that say so."""
        parts = []
        if self.thousands:
            parts.append(f'thousands = "{self.thousands}"')
        if self.decimal != ".":
            parts.append(f'decimal = "{self.decimal}"')
        if self.percent:
            parts.append("percent = true")
        return ", ".join(parts)


PLAIN = NumberFormat()


def parse_numbers(column: pd.Series[str], form: NumberFormat = PLAIN) -> tuple[Floats, Bools]:
    """Read text as numbers.

    Returns
    -------
    (n,) numbers, NaN where there is none, and (n,) whether the text is empty or says so.
    """
    text = column.str.strip()
    blank = text.str.lower().isin(NO_NUMBER).to_numpy()
    filled = text.where(~blank)
    if form != PLAIN:
        filled = _write_plainly(filled, form)
    try:
        cast = pa.array(filled, pa.string(), from_pandas=True).cast(pa.float64())
        numbers = cast.to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # some are no numbers, and pandas finds which
        with_minus = filled.str.replace("\u2212", "-", regex=False)
        numbers = pd.to_numeric(with_minus, errors="coerce").to_numpy()
    return np.asarray(numbers, np.float64), blank


def _write_plainly(text: pd.Series[str], form: NumberFormat) -> pd.Series[str]:
    """Write numbers of a format with a point and digits alone; what is not of it becomes '?'."""
    plain = text
    if form.percent and text.str.endswith("%").any():
        plain = text.str.extract(r"^(.*?)\s*%$", expand=False).fillna("?")
        plain = plain.where(text.notna())
    whole = r"\d*"
    if form.thousands:
        separator = _SEPARATORS.get(form.thousands, re.escape(form.thousands))
        whole = rf"(?:\d{{1,3}}(?:{separator}\d{{3}})+|\d*)"
    pattern = rf"[-+\u2212]?{whole}(?:{re.escape(form.decimal)}\d*)?(?:[eE][-+]?\d+)?"
    is_number = plain.str.fullmatch(pattern).fillna(value=False).astype(bool)
    if form.thousands:
        plain = plain.str.replace(separator, "", regex=True)
    plain = plain.str.replace(form.decimal, ".", regex=False)
    return plain.where(is_number | text.isna(), "?")


def are_meant_as_numbers(texts: pd.Series[str]) -> bool:
    """Return whether at least half of some texts are numerals, as `£31,500`, `½` and `inf` are, or
    all are numbers with one unit, as `5 km`.
    """
    if texts.empty:
        return False
    numbers, _ = parse_numbers(texts)
    is_numeral = texts.map(_is_numeral) | np.isinf(numbers)
    units = texts.str.extract(_WITH_UNIT, expand=False)
    have_one_unit = units.notna().all() and units.nunique() == 1
    return bool(is_numeral.mean() >= 0.5 or have_one_unit)


def _is_numeral(text: str) -> bool:
    """Return whether a text has digits and no letters."""
    return any(map(str.isnumeric, text)) and not any(map(str.isalpha, text))


def suggest_remedy(wrong: pd.Series[str], filled: pd.Series[str]) -> str:
    """Return what to do with a target that has texts that are no numbers.

    Parameters
    ----------
    wrong, filled : the texts that are no numbers, and all that are not empty.
    """
    remedies = ["Write numbers with a point, or leave it empty."]
    first = wrong.iloc[0].strip()
    forms = _find_formats([first, *filled])
    for number, form in forms.items():
        remedies.append(f"[targets] {form} makes it {number:.12g}.")
    if not forms and len(filled) > 2 * len(wrong):
        remedies.append(f'[tiles] missing = ["{first}"] makes it a missing value.')
    if len(wrong) == len(filled):
        remedies.append("Name the column in [targets] classes where it is no number.")
    return " ".join(remedies)


def _find_formats(texts: list[str]) -> dict[float, NumberFormat]:
    """Return the formats that make all of some texts numbers, by what they make of the first."""
    column = pd.Series(texts, dtype=str)
    found: dict[float, NumberFormat] = {}
    choices = product((".", ","), ("", ",", ".", " ", "'"), (False, True))
    for decimal, thousands, percent in choices:
        form = NumberFormat(decimal, thousands, percent)
        numbers, _ = parse_numbers(column, form)
        if decimal != thousands and np.isfinite(numbers).all():
            found.setdefault(float(numbers[0]), form)
    return found
