"""The files of the English Indices of Deprivation as they are published, with short column names.

Ministry of Housing, Communities and Local Government, "English indices of deprivation" 2019 and
2025, File 5 and File 7: one row an LSOA of 2011 or 2021. Scores rise with deprivation; rank and
decile 1 are the most deprived.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Direction = Literal["more deprived", "less deprived"]

_CODE = re.compile(r"LSOA code \((2011|2021)\)", re.IGNORECASE)
_MEASURE = re.compile(r"(?P<index>.+?) (?P<measure>score|rank|decile)\b", re.IGNORECASE)
_ENDINGS = {"score": "", "rank": "_rank", "decile": "_decile"}
_NAMES = {
    "index of multiple deprivation (imd)": "imd",
    "income": "income",
    "employment": "employment",
    "education, skills and training": "education",
    "health deprivation and disability": "health",
    "crime": "crime",
    "barriers to housing and services": "barriers",
    "living environment": "living_environment",
    "income deprivation affecting children index (idaci)": "idaci",
    "income deprivation affecting older people index (idaopi)": "idaopi",
    "income deprivation affecting older people (idaopi)": "idaopi",
    "children and young people sub-domain": "children",
    "adult skills sub-domain": "adult_skills",
    "geographical barriers sub-domain": "geographical_barriers",
    "wider barriers sub-domain": "wider_barriers",
    "indoors sub-domain": "indoors",
    "outdoors sub-domain": "outdoors",
}


class PublishedIndices(NamedTuple):
    """What a published file holds.

    Attributes
    ----------
    code : its column of LSOA codes.
    vintage : year of those LSOAs, and of the boundaries that go with them.
    columns : short name → column, as `income`, `income_rank`, `income_decile`.
    """

    code: str
    vintage: str
    columns: dict[str, str]


def recognise(columns: Sequence[str]) -> PublishedIndices | None:
    """Return what a file holds by its column names; None where it is another kind of file."""
    codes = [name for name in columns if _CODE.fullmatch(name.strip())]
    named = {short: name for name in columns if (short := shorten(name))}
    if len(codes) != 1 or not named:
        return None
    vintage = re.sub(r"\D", "", codes[0])
    return PublishedIndices(codes[0], vintage, named)


def shorten(column: str) -> str:
    """Return the short name of a published column, '' of any other."""
    found = _MEASURE.match(" ".join(column.split()))
    if found is None:
        return ""
    name = _NAMES.get(found["index"].lower())
    return f"{name}{_ENDINGS[found['measure'].lower()]}" if name else ""


def find_direction(targets: Sequence[str]) -> Direction | None:
    """Return what a higher value of these short names means; None where they do not agree."""
    shorts = set(_NAMES.values())
    if all(name in shorts for name in targets):
        return "more deprived"
    if all(name.endswith(("_rank", "_decile")) for name in targets):
        return "less deprived"
    return None
