"""Decode in this process: no test of what is stored waits for processes to start."""

from __future__ import annotations

from concurrent.futures import Future

from extract.pictures.decoder_pool import Decoding
from extract.timing.clock import Clock


class DecodersHere:
    """Stands in for `extract.pictures.decoder_pool.DecoderPool`."""

    def __init__(self, source, **_):
        self._source = source

    def __len__(self):
        return 1

    def wait_until_ready(self):
        pass

    def submit(self, locations):
        clock = Clock()
        done = Future()
        try:
            done.set_result((self._source.read(locations, clock), clock))
        except Exception as error:
            done.set_exception(error)
        return Decoding(0, done)

    def release(self, decoding):
        pass

    def reset(self):
        pass

    def close(self):
        pass

    def count_bytes(self):
        return 0
