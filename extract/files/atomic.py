"""How a file gets its name: after that, a power cut cannot undo it."""

from __future__ import annotations

import os
from pathlib import Path


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file, give it its final name, and sync the folder: after that a power cut cannot undo it."""
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
