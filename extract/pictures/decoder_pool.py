"""Processes that decode: threads would wait for one another at Python's lock, and leave most of many cores idle.

A process knows no network and no table: it is ready after a quarter of a second. Pictures are decoded into memory that it
shares with the process that started it; nothing else is sent but where they lie, and what was found.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import IO, Any, NamedTuple

import numpy as np
import psutil
from numpy.typing import NDArray

from extract.errors import DecoderError
from extract.pictures.fast_png import load_codecs
from extract.pictures.image_folder import PictureLocation
from extract.pictures.picture_source import Batch, PictureSource
from extract.timing.clock import Clock

# What a process runs: it imports from where this one does, and belongs to no terminal, so that Ctrl-C does not reach it.
_PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from extract.pictures.decoder_pool import serve; serve()"
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_PATIENCE = 5.0  # seconds until it is known how a process ended


class Decoding(NamedTuple):
    """A batch that a process may still be decoding, and the place of its pictures in the memory."""

    slot: int
    done: Future[tuple[Batch, Clock]]


class DecoderPool:
    """Processes that decode pictures, and the memory for as many batches as may be in use at once.

    `wait_until_ready` comes before anything else.

    Parameters
    ----------
    source : where pictures come from.
    processes : how many decode at once.
    batch, n_batches : most pictures of a batch; most batches that are submitted and not yet released.

    Raises
    ------
    DecoderError : no memory, or no process can be had.
    """

    def __init__(
        self, source: PictureSource, *, processes: int, batch: int, n_batches: int
    ) -> None:
        side = source.look.size
        shape = (n_batches, batch, side, side, 3)
        self._processes: list[_Process] = []
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        with ExitStack() as opened:  # what is entered last ends first
            self._threads = ThreadPoolExecutor(
                processes, "decode"
            )  # each waits for one process at a time
            opened.callback(self._threads.shutdown, wait=True, cancel_futures=True)
            try:
                said = opened.enter_context(
                    tempfile.TemporaryFile()
                )  # what they print before they are ready
                with open(os.memfd_create("pictures"), "r+b", buffering=0) as memory:  # noqa: PTH123  (it has no path)
                    memory.truncate(int(np.prod(shape)))
                    self._pictures = _map(memory.fileno(), shape)
                    for _ in range(processes):
                        process = _Process(source, shape, memory.fileno(), said)
                        opened.callback(process.end)
                        self._processes.append(process)
                        self._idle.put(process)
            except OSError as error:
                raise DecoderError(
                    f"no memory for {n_batches} batches of pictures, or no process to decode them: {error}. Lower "
                    "[extract] batch, or raise what `ulimit -a` shows: the size of files limits memory that "
                    "processes share, too"
                ) from error
            self.close = weakref.finalize(self, opened.pop_all().close)
        self._taken: dict[int, Decoding] = {}
        self._free = list(range(n_batches))

    def __len__(self) -> int:
        """Count the processes."""
        return len(self._processes)

    def wait_until_ready(self) -> None:
        """Wait until every process has started.

        Raises
        ------
        DecoderError : one cannot.
        """
        for process in self._processes:
            try:
                process.answer()
            except (EOFError, OSError):
                raise DecoderError(f"a process that decodes pictures {process.say_end()}") from None

    def submit(self, places: Sequence[PictureLocation]) -> Decoding:
        """Have pictures decoded by the next process that is free; they are in memory until they are released.

        Parameters
        ----------
        places : (n,), what `Images.find` gives, n ≤ batch.
        """
        slot = self._free.pop()
        self._taken[slot] = Decoding(slot, self._threads.submit(self._read, slot, list(places)))
        return self._taken[slot]

    def release(self, decoding: Decoding) -> None:
        """Let another batch have the memory; nobody may look at these pictures any more."""
        del self._taken[decoding.slot]
        self._free.append(decoding.slot)

    def reset(self) -> None:
        """Forget what was submitted and not released, as after a run that was stopped."""
        for decoding in self._taken.values():
            decoding.done.cancel()
        wait([decoding.done for decoding in self._taken.values()])
        for decoding in list(self._taken.values()):
            self.release(decoding)

    def count_bytes(self) -> int:
        """Count the memory that the processes have for themselves [bytes]; the pictures' is counted where they are looked at."""
        return sum(process.count_bytes() for process in self._processes)

    def _read(self, slot: int, places: list[PictureLocation]) -> tuple[Batch, Clock]:
        process = self._idle.get()
        is_asked = False
        try:
            process.ask(slot, places)
            is_asked = True
            answer = process.answer()
        except (EOFError, OSError):
            raise DecoderError(
                f"a process that decodes pictures {process.say_end()}", is_at_work=is_asked
            ) from None
        finally:
            self._idle.put(process)  # a dead one too: whoever asks it next is told at once
        if isinstance(answer, Exception):
            raise answer
        facts, reasons, seconds = answer
        return Batch(self._pictures[slot, : len(places)], facts, reasons), Clock(seconds)


class _Process:
    """One process, asked by one thread at a time."""

    def __init__(
        self, source: PictureSource, shape: tuple[int, ...], memory: int, said: IO[bytes]
    ) -> None:
        self._pipe, theirs = Pipe()
        self._said = said
        with theirs:
            handles = (theirs.fileno(), memory)
            self._popen = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *map(str, handles), *sys.path],
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,
            )
        with suppress(OSError):  # it ended already: the first who asks is told
            self._pipe.send((source, shape))

    def ask(self, slot: int, places: list[PictureLocation]) -> None:
        """Have pictures put in a slot.

        Raises
        ------
        OSError : it has ended.
        """
        self._pipe.send((slot, places))

    def answer(self) -> Any:
        """Wait for what `_answer` gives there, or for the word that it has started.

        Raises
        ------
        EOFError, OSError : it ended.
        """
        return self._pipe.recv()

    def count_bytes(self) -> int:
        """Count the memory that no other process has; 0 where it has ended."""
        try:
            n_bytes: int = psutil.Process(self._popen.pid).memory_full_info().uss
        except psutil.Error:
            return 0
        return n_bytes

    def say_end(self) -> str:
        """Describe how it ended."""
        try:
            code = self._popen.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "does not answer"
        if code < 0:
            known = {number.value: number.name for number in signal.Signals}
            return f"was ended by {known.get(-code, f'signal {-code}')}"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"ended with code {code}: {lines[-1] if lines else 'it says nothing'}"

    def end(self) -> None:
        """End it, whatever it is at: it writes nothing that anybody wants to keep."""
        self._popen.kill()
        self._popen.wait()


def _map(memory: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.frombuffer(mmap.mmap(memory, int(np.prod(shape))), np.uint8).reshape(shape)


def serve() -> None:
    """Decode what the other process asks for, until it ends; the command line names the pipe and the memory."""
    pipe = Connection(int(sys.argv[1]))
    memory = int(sys.argv[2])
    with suppress(EOFError, ConnectionError):  # the run has ended, or was killed
        source, shape = pipe.recv()
        pictures = _map(memory, shape)
        load_codecs()
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 2
        )  # libpng and libjpeg have a line for every damaged file
        pipe.send("ready")
        while True:
            slot, places = pipe.recv()
            pipe.send(_answer(source, places, pictures[slot, : len(places)]))


def _answer(
    source: PictureSource, places: list[PictureLocation], into: NDArray[np.uint8]
) -> Exception | tuple[Any, ...]:
    """Return the pictures' facts, their reasons, and the seconds of each stage; or what went wrong otherwise."""
    clock = Clock()
    try:
        batch = source.read(places, clock, into)
    except Exception as error:
        return error
    return batch.facts, batch.reasons, clock.seconds
