"""What codes of areas tell of the year that they are from."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

# First codes that the 2021 census made: Office for National Statistics, "LSOA (2011) to LSOA (2021)
# best fit lookup"; areas that did not change keep their older code, so that most codes are of both
# vintages.
FIRST_OF_2021 = {"E01": 33769, "W01": 1959}
_ONS = r"[EWSN]\d{8}"


def select_ons(codes: pd.Series[str]) -> pd.Series[str]:
    """Return the codes of the Office for National Statistics among some, as E01000001."""
    return codes[codes.str.fullmatch(_ONS)]


def select_new(codes: Iterable[str]) -> list[str]:
    """Return the LSOA codes among some that exist only since 2021."""
    ons = select_ons(pd.Series(list(codes), dtype=str))
    new = []
    for code in ons:
        first = FIRST_OF_2021.get(code[:3])
        if first is not None and int(code[3:]) >= first:
            new.append(code)
    return new


def describe_match(areas: Iterable[str], labels: Iterable[str]) -> str:
    """Return which areas have no label, and why as far as codes tell; '' where all have one.

    Parameters
    ----------
    areas, labels : codes of the areas that are there, and of those that have a label.
    """
    there = sorted(set(areas))
    known = set(labels)
    unlabelled = [code for code in there if code not in known]
    if not unlabelled:
        return ""
    n_spare = len(known.difference(there))
    spare = "1 label has no area" if n_spare == 1 else f"{n_spare:,} labels have no area"
    verb = "has" if len(unlabelled) == 1 else "have"
    text = (
        f"{len(unlabelled):,} of {len(there):,} areas {verb} no label ({unlabelled[0]} …); {spare}"
    )
    new = select_new(unlabelled)
    if new and not select_new(known):
        return (
            f"{text}. {new[0]} exists only since 2021, and no label does: take labels by LSOA 2021"
        )
    bare = {code.lstrip("0"): code for code in unlabelled}
    lost = [code for code in known if code in bare]
    if lost:
        code = min(lost)
        return f"{text}. Is {code!r} {bare[code]!r}? Save the codes as text, with their zeros"
    if new:
        return text
    old = select_ons(pd.Series(unlabelled, dtype=str))
    if len(old) and select_new(known):
        return f"{text}. Labels are by LSOA 2021: take boundaries of that year"
    return text
