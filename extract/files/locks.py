"""Who may write a features folder: one run at a time, and one worker a device."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from extract.errors import LockError

_held: list[int] = []  # files of the devices that this process has claimed, until it ends


def make_folder(folder: Path) -> None:
    """Make a folder to write into.

    Raises
    ------
    LockError : it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").open("a").close()
    except OSError as error:
        raise LockError(
            f"{folder}: cannot be written ({error.strerror}). Mend its rights, or set `out` to another "
            "folder."
        ) from None


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Make a folder and hold it; the lock goes with the process, so that a killed run leaves none behind.

    Yields
    ------
    What the user should know: empty, or that this file system has no locks.

    Raises
    ------
    LockError : another process holds it, or it cannot be written.
    """
    make_folder(folder)
    with (folder / ".lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise LockError(
                f"{folder}: in use by process {handle.read().strip()}. Wait for it, or stop it."
            ) from None
        except OSError as error:
            yield (
                f"{folder}: this file system has no locks ({error.strerror}): a second run on it would not be noticed. "
                "Start one at a time."
            )
            return
        handle.truncate(0)
        handle.write(f"{os.getpid()} on {socket.gethostname()}")
        handle.flush()
        try:
            yield ""
        finally:  # to close it would leave the lock with a child that was forked meanwhile
            fcntl.flock(handle, fcntl.LOCK_UN)


def claim_device(folder: Path, devices: Sequence[str]) -> str:
    """Take one device of this machine that no other worker has, for as long as this process lives.

    Raises
    ------
    LockError : there are more workers than devices.
    """
    for device in devices:
        handle = os.open(folder / f".device-{device}", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        _held.append(handle)
        return device
    raise LockError(
        f"{folder}: more workers than devices ({', '.join(devices)}). Lower [extract] workers."
    )
