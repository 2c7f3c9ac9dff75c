"""Texts that are the same to a person, and not to a program."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pandas as pd

# Letters of other alphabets that are drawn as Latin ones (Unicode Technical Standard 39,
# "confusables"), in lower case, as the capitals of the two are alike.
_CYRILLIC = str.maketrans("авеёкмнорстухіјѕԁһ", "abeekmhopctyxijsdh")
_GREEK = str.maketrans("αβεζηικμνορτυχ", "abezhikmnoptyx")
_MARKS = str.maketrans("‐‑‒–—−‘’ʼ`´“”„", "------'''''\"\"\"")
# Joiners, fillers and variation selectors: ignorable, and of other categories than Cf
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0]")
_NUMBER = re.compile(r"(-?)\+?0*(\d+)(?:\.(\d*?)0*)?")


def plain_form(text: str) -> str:
    """Return what a person reads: equal for two texts that look alike.

    Compatible characters (NFKC), case, blanks, characters without width, dashes, apostrophes,
    letters of other alphabets that look Latin, and forms of one number (`1`, `01`, `1.0`) make no
    difference.
    """
    marked = text.translate(_MARKS)
    compatible = unicodedata.normalize("NFKC", marked)
    shown = [letter for letter in compatible if not _is_unseen(letter)]
    lower = "".join(shown).casefold()
    latin = lower.translate(_CYRILLIC).translate(_GREEK)
    number = _NUMBER.fullmatch(latin)
    if number is None:
        return latin
    sign, whole, fraction = number.groups(default="")
    return f"{sign}{whole}.{fraction}".removesuffix(".")


def _is_unseen(letter: str) -> bool:
    """Return whether a character is a blank, or has no width."""
    category = unicodedata.category(letter)
    is_control = category in {"Cf", "Cc"}
    return letter.isspace() or is_control or _UNSEEN.match(letter) is not None


def group_look_alikes(texts: Iterable[str]) -> list[list[str]]:
    """Return the texts that look like another, those that are alike together."""
    unique = list(dict.fromkeys(texts))
    distinct = pd.Series(unique, dtype=object)
    plain = distinct.map(plain_form)
    groups = [list(alike) for _, alike in distinct.groupby(plain, sort=False)]
    return [alike for alike in groups if len(alike) > 1]


def quote(text: str) -> str:
    """Return a text in quotes; a character that is not ASCII is written as its number."""
    return ascii(text)
