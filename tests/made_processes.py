"""Processes to be killed that begin in a moment: forked from one that has imported what they need.

Each would else import the same libraries for seconds before there is anything to kill.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from stub_network import open_stub

from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings

_IMPORTED = [
    "made_processes",
    "extract.loop.make_shards",
    "models.predicting.predict",
    "models.explaining.explain",
    "reports.build",
]


def start_fork(function: Callable[..., None], *given: Any) -> BaseProcess:
    """Call a function of a module in a new process that does not inherit the state of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=function, args=given)
    process.start()
    return process


def start_extraction(path: Path, seconds: float) -> BaseProcess:
    """Start an extraction whose network takes some seconds a batch."""
    return start_fork(_extract_slowly, path, seconds)


def _extract_slowly(path: Path, seconds: float) -> None:
    os.environ["STUB_SECONDS"] = str(seconds)
    run_extraction(read_settings(path, ExtractSettings), open_forward=open_stub)
