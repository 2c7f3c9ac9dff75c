"""Scores in, one page out.

From Python::

    reports.show("artifacts/town")  # the page, in a notebook
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.api import Page, show

__all__ = ["Page", "show"]


def __getattr__(name: str) -> Any:
    """Load what is asked for; importing the package loads nothing."""
    if name in __all__:
        from reports import api

        return getattr(api, name)
    raise AttributeError(f"module 'reports' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
