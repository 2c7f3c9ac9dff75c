"""Documents that carry the hash of all else that they say."""

from __future__ import annotations

import json
from typing import Any

from extract.files.hashing import hash_text

SEAL = "sha256"


def seal(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with the hash of it."""
    return {**document, SEAL: _hash_said(document)}


def is_sealed(document: dict[str, Any]) -> bool:
    """Return whether a document carries its hash, and says what was sealed."""
    said = {name: value for name, value in document.items() if name != SEAL}
    return document.get(SEAL) == _hash_said(said)


def _hash_said(document: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(document))  # keys are text, as they are read again
    text = json.dumps(plain, sort_keys=True)
    return hash_text(text)
