"""Names of files and folders for what tables and settings call anything: targets, cuts, tiles.

A name is valid on every system, stays inside its folder, and two different ones differ on disks
that are blind to case too. Plain names in small letters stay as they are.
"""

from __future__ import annotations

import hashlib
import string
from urllib.parse import unquote_to_bytes

LONGEST = 96  # characters of a name on disk
_EDGES = (".", " ")  # letters that no name may begin or end with
_PLAIN = frozenset(string.ascii_letters + string.digits + "._-+@ ()")
_CONSOLE = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
_SERIAL = {f"COM{number}" for number in range(10)}
_PARALLEL = {f"LPT{number}" for number in range(10)}
_RESERVED = _CONSOLE | _SERIAL | _PARALLEL  # on Windows, with any ending
_HASH_DIGITS = 16


def encode_name(name: str, *, longest: int = LONGEST) -> str:
    """Return the name on disk of anything.

    Letters, digits and ``. _ - + @ ( )`` stay; all others are percent-encoded as in an address,
    and so is the first letter of what Windows reserves, as ``%63on``. Behind ``=`` stands, as a
    hexadecimal number, which letters are capitals. What would be longer than `longest` is cut, and
    carries its hash behind ``=x``.

    Examples
    --------
    >>> encode_name("income"), encode_name("pop/km2"), encode_name("IMD")
    ('income', 'pop%2Fkm2', 'IMD=7')
    """
    parts = []
    capitals = 0
    for i, letter in enumerate(name):
        is_plain = letter in _PLAIN
        parts.append(letter if is_plain else _quote(letter))
        if letter in string.ascii_uppercase:
            capitals |= 1 << i
    stem = name.partition(".")[0]
    is_reserved = stem.strip().upper() in _RESERVED
    if is_reserved or name.startswith(_EDGES):
        parts[0] = _quote(name[0])
    if name.endswith(_EDGES):
        parts[-1] = _quote(name[-1])
    encoded = "".join(parts)
    if capitals or not name:
        encoded += f"={capitals:x}"
    if len(encoded) <= longest:
        return encoded
    digest = hashlib.sha256(_to_bytes(name)).hexdigest()
    ending = f"=x{digest[:_HASH_DIGITS]}"
    return encoded[: longest - len(ending)] + ending


def decode_name(encoded: str) -> str:
    """Return what `encode_name` gave a name.

    Raises
    ------
    ValueError : a name that was too long, and stands in the file alone.
    """
    quoted, _, ending = encoded.partition("=")
    if ending.startswith("x"):
        raise ValueError(f"{encoded!r}: cut to {len(encoded)} characters; its file has the whole.")
    return unquote_to_bytes(quoted).decode("utf-8", "surrogatepass")


def _quote(letter: str) -> str:
    codes = [f"%{byte:02X}" for byte in _to_bytes(letter)]
    return "".join(codes)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
