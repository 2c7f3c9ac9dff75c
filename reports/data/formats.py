"""Numbers and lists as the page and its tables write them."""

from __future__ import annotations

import math

DASH = "–"  # where there is no number
IRREGULAR = {"index": "indices"}


def format_value(value: object, digits: int = 3) -> str:
    """Return a float with that many decimals, `–` where it is not finite, and text as it is."""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return DASH
    rounded = round(value, digits) + 0.0  # + 0.0: no −0.00
    return f"{rounded:,.{digits}f}".replace("-", "−").replace(",", "\u202f")


def format_number(value: object, digits: int = 2) -> str:
    """Return a number for the page's tables; from 10,000 on without decimals."""
    if not isinstance(value, int | float):
        return str(value)
    if abs(value) >= 1e4:
        digits = 0
    return format_value(float(value), digits)


def format_figures(value: float, figures: int = 3) -> str:
    """Return a number with that many significant figures, without an exponent."""
    if not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    digits = figures - 1 - math.floor(math.log10(abs(value)))
    return format_value(float(value), max(0, digits))


def format_ends(ends: tuple[float, float]) -> str:
    """Return an interval, both ends with the decimals of three figures of the larger."""
    low, high = ends
    largest = max(abs(low), abs(high))
    if not math.isfinite(largest):
        return DASH
    digits = 2 - math.floor(math.log10(largest or 1.0))
    texts = [format_value(float(end), max(0, digits)) for end in ends]
    return " … ".join(texts)


def format_count(value: int) -> str:
    """Return a count with narrow spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def format_percent(share: float) -> str:
    """Return a share in whole percent."""
    if not math.isfinite(share):
        return DASH
    return f"{format_value(100.0 * share, 0)}\u202f%"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 tile`, `2 tiles`, `7 indices`."""
    if count != 1:
        noun = IRREGULAR.get(noun, f"{noun}s")
    return f"{format_count(count)} {noun}"


def join_words(words: list[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    *first, last = words or [""]
    return f"{', '.join(first)} and {last}" if first else last
