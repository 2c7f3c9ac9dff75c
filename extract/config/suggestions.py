"""What somebody may have meant by a name that is not known."""

from __future__ import annotations

import difflib
from typing import Any


def suggest(name: str, known: Any) -> str:
    """Return ` Did you mean 'x'?` for the known name nearest to `name`, or nothing."""
    texts = map(str, known)
    near = difflib.get_close_matches(name.lower(), list(texts), n=1, cutoff=0.5)
    if not near:
        return ""
    return f" Did you mean {near[0]!r}?"
