"""Numbers as the page and its tables write them."""

from __future__ import annotations

import math

DASH = "–"  # where there is no number


def format_value(value: object, digits: int = 3) -> str:
    """Return a float with that many decimals, `–` where it is not finite, and text as it is."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else DASH


def format_number(value: object, digits: int = 2) -> str:
    """Return a number for the page's tables; from 10,000 on with an exponent."""
    if not isinstance(value, int | float):
        return str(value)
    if 1e4 <= abs(value) < math.inf:
        return f"{value:.1e}".replace("-", "−")
    return format_value(float(value), digits)


def format_figures(value: float) -> str:
    """Return a number with three significant figures."""
    return f"{value:.3g}".replace("-", "−") if math.isfinite(value) else DASH


def format_count(value: int) -> str:
    """Return a count with narrow spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def format_percent(share: float) -> str:
    """Return a share in whole percent."""
    return f"{100 * share:.0f}\u202f%".replace("-", "−") if math.isfinite(share) else DASH


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: `1 tile`, `2 tiles`."""
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"
