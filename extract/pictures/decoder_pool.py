"""Decode pictures in processes of their own, into memory that they share with this one.

Threads would wait for one another at Python's lock and leave most of many cores idle. A process
loads neither networks nor tables (25 MB each) and is ready after a quarter of a second. It is a
plain child on two pipes: `concurrent.futures.ProcessPoolExecutor` does not say which pictures a
process died at, leaves its processes behind a killed parent, runs the user's script once more in
each, and cannot be used in the workers of Dask, which are daemons.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, NamedTuple, cast

import numpy as np
import psutil

from extract.errors import DecoderError
from extract.pictures.codecs import load_early
from extract.pictures.image_folder import PictureLocation
from extract.pictures.picture_source import Batch, PictureSource
from extract.timing.clock import Clock

_COMMAND = ("-P", "-m", "extract.pictures.decoder_pool")
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_ENDED = (EOFError, OSError, pickle.UnpicklingError)  # what a pipe to an ended process raises
_EXIT_SECONDS = 5.0  # until it is known how a process ended


class Decoding(NamedTuple):
    """A batch that a process may still be decoding, and the number of its part of the memory."""

    slot: int
    done: Future[tuple[Batch, Clock]]


class DecoderPool:
    """Processes that decode pictures, and the memory for all batches in use at once.

    Call `wait_until_ready` before anything else.

    Parameters
    ----------
    source : where pictures come from, and how they are decoded.
    processes : number of processes.
    batch : largest number of pictures in a batch.
    n_batches : largest number of batches that are submitted and not yet released.

    Raises
    ------
    DecoderError : the memory or a process cannot be had.
    """

    def __init__(
        self, source: PictureSource, *, processes: int, batch: int, n_batches: int
    ) -> None:
        side = source.options.size
        shape = (n_batches, batch, side, side, 3)
        self._processes: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        with ExitStack() as opened:  # what is entered last ends first
            # each thread waits for one process at a time
            self._threads = ThreadPoolExecutor(processes, "decode")
            opened.callback(self._threads.shutdown, wait=True, cancel_futures=True)
            try:
                self._path = _create_file(int(np.prod(shape)))
                opened.callback(self._path.unlink, missing_ok=True)
                self._pictures = np.memmap(self._path, np.uint8, "w+", shape=shape)
                messages = opened.enter_context(tempfile.TemporaryFile())
                for _ in range(processes):
                    process = _Process(messages)
                    opened.callback(process.end)
                    with suppress(BrokenPipeError):  # it has ended: `wait_until_ready` says so
                        process.send((source, self._path, shape))
                    self._processes.append(process)
                    self._idle.put(process)
            except OSError as error:
                raise DecoderError(
                    f"no memory for {n_batches} batches of pictures, or no process to decode "
                    f"them: {error}. Lower [extract] batch, or raise what `ulimit -a` shows: "
                    "the size of files limits memory that processes share, too"
                ) from error
            self.close = weakref.finalize(self, opened.pop_all().close)
        self._taken: dict[int, Decoding] = {}
        self._free = list(range(n_batches))

    def __len__(self) -> int:
        """Return the number of processes."""
        return len(self._processes)

    def wait_until_ready(self) -> None:
        """Wait until every process has started.

        Raises
        ------
        DecoderError : one cannot.
        """
        for process in self._processes:
            try:
                process.receive()
            except _ENDED:
                raise DecoderError(
                    f"a process that decodes pictures {process.describe_end()}"
                ) from None
        with suppress(PermissionError):  # Windows keeps a file as long as it is open
            self._path.unlink(missing_ok=True)

    def submit(self, locations: Sequence[PictureLocation]) -> Decoding:
        """Have the next free process decode pictures, which stay in memory until released.

        Parameters
        ----------
        locations : (n,), from `Images.find`, n ≤ batch.
        """
        slot = self._free.pop()
        decoding = Decoding(slot, self._threads.submit(self._read, slot, list(locations)))
        self._taken[slot] = decoding
        return decoding

    def release(self, decoding: Decoding) -> None:
        """Give the memory of a batch to another; its pictures may not be used any more."""
        del self._taken[decoding.slot]
        self._free.append(decoding.slot)

    def reset(self) -> None:
        """Release all batches, as after a run that was stopped."""
        taken = list(self._taken.values())
        for decoding in taken:
            decoding.done.cancel()
        wait([decoding.done for decoding in taken])
        for decoding in taken:
            self.release(decoding)

    def count_bytes(self) -> int:
        """Return the memory of the processes [bytes], without what they share with this one."""
        return sum(process.count_bytes() for process in self._processes)

    def _read(self, slot: int, locations: list[PictureLocation]) -> tuple[Batch, Clock]:
        process = self._idle.get()
        is_at_work = False
        try:
            process.send((slot, locations))
            is_at_work = True
            answer = process.receive()
        except _ENDED:
            raise DecoderError(
                f"a process that decodes pictures {process.describe_end()}", is_at_work=is_at_work
            ) from None
        finally:
            self._idle.put(process)  # an ended one too: the next batch fails at once
        if isinstance(answer, Exception):
            raise answer
        facts, reasons, seconds = answer
        return Batch(self._pictures[slot, : len(locations)], facts, reasons), Clock(seconds)


class _Process:
    """One process, used by one thread at a time.

    It belongs to no terminal, so that Ctrl-C does not reach it, and ends with the pipe to it.
    """

    def __init__(self, messages: IO[bytes]) -> None:
        self._messages = messages
        paths = [path or str(Path.cwd()) for path in sys.path]
        self._popen = subprocess.Popen(
            [sys.executable, *_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
        self._requests = cast(IO[bytes], self._popen.stdin)
        self._answers = cast(IO[bytes], self._popen.stdout)

    def send(self, request: Any) -> None:
        """Send a request; raises OSError where the process has ended."""
        _send(request, self._requests)

    def receive(self) -> Any:
        """Return the next answer; raises one of `_ENDED` where the process has ended."""
        return pickle.load(self._answers)

    def count_bytes(self) -> int:
        """Return the memory that no other process has [bytes], 0 for an ended process."""
        try:
            return int(psutil.Process(self._popen.pid).memory_full_info().uss)
        except psutil.Error:
            return 0

    def describe_end(self) -> str:
        """Describe how the process ended."""
        try:
            code = self._popen.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return "does not answer"
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"was ended by {names.get(-code, f'signal {-code}')}"
        self._messages.seek(0)
        messages = self._messages.read().decode(errors="replace")
        last = messages.strip().rpartition("\n")[2]
        return f"ended with code {code}: {last or 'no message'}"

    def end(self) -> None:
        """End the process, whatever it does: it writes nothing that is kept."""
        self._popen.kill()
        self._popen.wait()
        self._answers.close()
        with suppress(OSError):  # a request that was not sent
            self._requests.close()


def _create_file(n_bytes: int) -> Path:
    """Create a file to share: in memory where the system has a folder for it, with room."""
    memory = Path("/dev/shm")
    is_there = memory.is_dir() and shutil.disk_usage(memory).free > n_bytes
    handle, name = tempfile.mkstemp(prefix="roofline-", dir=memory if is_there else None)
    os.close(handle)
    return Path(name)


def serve() -> None:
    """Decode what the parent asks for on the standard input, until it ends."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    source, path, shape = pickle.load(requests)
    try:
        pictures = np.memmap(path, np.uint8, "r+", shape=shape)
        load_early()
        os.dup2(nowhere, 2)  # libpng and libjpeg have a line for every damaged file
        _send("ready", answers)
        while True:
            slot, locations = pickle.load(requests)
            _send(_decode(source, locations, pictures[slot, : len(locations)]), answers)
    except (EOFError, ConnectionError):  # the parent has ended, or was killed
        path.unlink(missing_ok=True)


def _send(answer: Any, pipe: IO[bytes]) -> None:
    pickle.dump(answer, pipe)
    pipe.flush()


def _decode(source: PictureSource, locations: list[PictureLocation], into: Any) -> Any:
    """Return the facts, the reasons and the seconds of each stage, or what was raised."""
    clock = Clock()
    try:
        batch = source.read(locations, clock, into)
    except Exception as error:
        return error
    return batch.facts, batch.reasons, clock.seconds


if __name__ == "__main__":
    serve()
