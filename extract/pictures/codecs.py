"""Load the library of codecs where it is used: it takes as long as a whole batch of pictures."""

from __future__ import annotations

from typing import Any


def load_codecs() -> Any:
    """Import imagecodecs, whose functions free the interpreter.

    Returns
    -------
    The module; its own types refuse the memoryviews that it takes.
    """
    import imagecodecs

    return imagecodecs


def load_early() -> None:
    """Load the codecs of PNG and Deflate before the first picture."""
    codecs = load_codecs()
    _ = codecs.spng_decode, codecs.deflate_decode
