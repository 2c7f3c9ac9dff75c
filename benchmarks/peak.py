"""Peak memory of a process, without anything else being loaded."""

from __future__ import annotations

from pathlib import Path


def read_peak() -> int:
    """Read this process's peak memory [bytes]; `getrusage` would count its parent's, which it keeps
    across `exec`.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
