"""Lock folders and devices: one run at a time in a folder, one worker process a device."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from filelock import FileLock, Timeout

from extract.errors import LockError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class DeviceClaim(NamedTuple):
    """A device of this machine, held for as long as its owner keeps this object."""

    device: str
    lock: FileLock


def make_folder(folder: Path) -> None:
    """Make a folder to write into.

    Raises
    ------
    LockError : it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".lock").touch()
    except OSError as error:
        raise LockError(
            f"{folder}: cannot be written ({error.strerror}). Mend its rights, or set `out` to "
            "another folder."
        ) from None


@contextmanager
def locked(folder: Path) -> Iterator[str]:
    """Make a folder and hold it; a killed process leaves no lock behind.

    Yields
    ------
    A note for the user: empty, or that this file system has no locks.

    Raises
    ------
    LockError : another process holds it, or it cannot be written.
    """
    make_folder(folder)
    path = folder / ".lock"
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        owner = _read_owner(path)
        by = f"process {owner}" if owner else "another command, which reads it"
        raise LockError(f"{folder}: in use by {by}. Wait for it, or stop it.") from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        yield (
            f"{folder}: this file system has no locks ({reason}): a second run on it would not be "
            "noticed. Start one at a time."
        )
        return
    try:
        _write_owner(path)
        yield ""
    finally:
        _forget_owner(path)
        lock.release()


@contextmanager
def locked_to_read(folder: Path) -> Iterator[None]:
    """Hold a folder together with others that read it, so that nobody writes into it meanwhile.

    Nothing is held where nobody has written yet, on a file system without locks, and on Windows,
    which has none that are shared; there a process that writes is noticed at the beginning.

    Raises
    ------
    LockError : a process writes into it.
    """
    path = folder / ".lock"
    try:
        handle = path.open("rb")
    except OSError:
        yield
        return
    with handle:
        if not _share(handle, path):
            raise LockError(
                f"{folder}: process {_read_owner(path)} is writing into it. Wait for it, or stop "
                "it, and run the same command again."
            )
        yield


def _share(handle: BinaryIO, path: Path) -> bool:
    """Return whether nobody writes; on POSIX the lock holds until the file is closed."""
    if fcntl is None:
        lock = FileLock(path, fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        return True
    return True


def claim_device(folder: Path, devices: Sequence[str]) -> DeviceClaim:
    """Take one device of this machine that no other worker has.

    Raises
    ------
    LockError : there are more workers than devices.
    """
    for device in devices:
        lock = FileLock(folder / f".device-{device}", fallback_to_soft=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        return DeviceClaim(device, lock)
    raise LockError(
        f"{folder}: more workers than devices ({', '.join(devices)}). Lower [extract] workers."
    )


def _write_owner(path: Path) -> None:
    if os.name != "nt":  # where a locked file can be neither read nor written
        path.write_text(f"{os.getpid()} on {socket.gethostname()}")


def _forget_owner(path: Path) -> None:
    if os.name != "nt" and path.is_file():
        path.write_text("")


def _read_owner(path: Path) -> str:
    return path.read_text().strip() if os.name != "nt" else "(another)"
