"""Who may write a features folder: one run at a time, and one worker a device."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_HELD: list[IO[str]] = []  # devices that this process has claimed, until it ends


class LockError(RuntimeError):
    """Another process holds the folder; the text says which."""


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Hold a folder; the lock goes with the process, so that a killed run leaves none behind.

    Yields
    ------
    What the user should know: empty, or that this file system has no locks.

    Raises
    ------
    LockError : another process holds it.
    """
    with (folder / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise LockError(f"{folder}: in use by process {handle.read().strip()}. Wait for it, or stop it.") from None
        except OSError as error:
            yield (f"{folder}: this file system has no locks ({error.strerror}): a second run on it would not be noticed. "
                   "Start one at a time.")
            return
        handle.truncate(0)
        handle.write(f"{os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield ""


def claim_device(folder: Path, devices: Sequence[str]) -> str:
    """Take one device of this machine that no other worker has, for as long as this process lives.

    Raises
    ------
    LockError : there are more workers than devices.
    """
    for device in devices:
        handle = (folder / f".device-{device}").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            continue
        _HELD.append(handle)
        return device
    raise LockError(f"{folder}: more workers than devices ({', '.join(devices)}). Lower [extract] workers.")
