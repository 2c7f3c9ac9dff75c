"""Check that a VRT names only rasters that are files on this machine, and brings no code.

GDAL's switches (see `mosaic`) stop Python code and /vsicurl, but a source is opened by any driver
that knows it, those of web services among them: so sources are checked here by their first bytes.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from extract.errors import RasterError

_ELSEWHERE = ("/vsi", "://", "PixelFunction")  # other places than files, and code
_SUBCLASSES = {"vrtsourcedrasterband", "vrtwarpeddataset", "vrtwarpedrasterband"}
_TIFF = (b"ii*\0", b"mm\0*", b"ii+\0", b"mm\0+")
_ASC = (b"ncols", b"nrows", b"xll", b"yll", b"cellsize", b"dx", b"dy")
_STARTS = {".tif": _TIFF, ".tiff": _TIFF, ".asc": _ASC}  # in small letters
_MOST_BYTES = 256 << 20


def check_vrt(path: Path) -> None:
    """Check a VRT and the sources that it names.

    Raises
    ------
    RasterError : no XML, or it names anything but GeoTIFFs and .asc, or brings code along.
    """
    try:
        for element in _read_xml(path).iter():
            _check_element(element, path.parent)
    except RasterError as error:
        raise RasterError(f"{path}: {error}. Make the VRT anew with gdalbuildvrt.") from None


def _check_element(element: ElementTree.Element, beside: Path) -> None:
    tag = element.tag.rpartition("}")[2].lower()  # GDAL knows no namespaces, and no case
    attributes = {name.lower(): value for name, value in element.items()}
    text = element.text or ""
    content = " ".join([tag, text, *attributes.values()])
    for mark in _ELSEWHERE:
        if mark.lower() in content.lower():
            raise RasterError(
                f"holds {mark!r}; only files on this machine are read, and no code is run"
            )
    subclass = attributes.get("subclass")
    if subclass and subclass.lower() not in _SUBCLASSES:
        raise RasterError(f"holds a {subclass}, which may name anything")
    if tag in ("sourcefilename", "sourcedataset"):
        is_relative = attributes.get("relativetovrt", "0") != "0"
        folder = beside if is_relative else Path()
        _check_source(folder / text.strip())


def _read_xml(path: Path) -> ElementTree.Element:
    if path.stat().st_size > _MOST_BYTES:
        raise RasterError("is larger than 256 MiB")
    content = path.read_bytes()
    text = content.replace(b"\0", b"")
    if b"<!doctype" in text.lower():
        raise RasterError("declares a document type, which no VRT needs")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise RasterError(f"is no XML ({error})") from None


def _check_source(source: Path) -> None:
    if not source.is_file():
        raise RasterError(f"names {str(source)!r}, which is no file here")
    with source.open("rb") as file:
        start = file.read(64).lstrip().lower()
    known = _STARTS.get(source.suffix.lower(), ())
    if not start.startswith(known):
        raise RasterError(f"names {str(source)!r}, which is neither a GeoTIFF nor an .asc")
