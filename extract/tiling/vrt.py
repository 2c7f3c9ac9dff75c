"""What a VRT may name: rasters that are files on this machine, and nothing that runs code or reaches a network.

GDAL opens a VRT's sources by whatever driver knows them, those of web services among them: so a source has to begin as a
GeoTIFF or an .asc does, whatever its name, or to be a VRT that holds to the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from extract.errors import RasterError

_MARKS = ("/vsi", "://", "PixelFunction")  # other places than files, and code
_NAMES = ("sourcefilename", "sourcedataset")
_PLAIN = (
    "",
    "vrtsourcedrasterband",
    "vrtwarpeddataset",
    "vrtwarpedrasterband",
)  # kinds that name their sources by these alone
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ASC = (b"ncols", b"nrows", b"xll", b"yll", b"cellsize", b"dx", b"dy")
_DEEPEST = 4
_MOST_BYTES = 256 << 20


def check_vrt(path: Path, *, depth: int = 1) -> None:
    """Check a VRT and all that it names.

    Raises
    ------
    RasterError : no XML, or it names anything but rasters that are files here, or brings code along.
    """
    if depth > _DEEPEST:
        raise RasterError(f"VRTs name each other, more than {_DEEPEST} deep")
    for element in _parse(path).iter():
        for text in (element.text or "", *element.attrib.values()):
            for mark in _MARKS:
                if mark.lower() in f"{element.tag} {text}".lower():
                    raise RasterError(
                        f"holds {mark!r}; only files on this machine are read, and no code is run"
                    )
        said = {
            name.lower(): value for name, value in element.attrib.items()
        }  # GDAL makes no difference
        if said.get("subclass", "").lower() not in _PLAIN:
            raise RasterError(f"holds a {said['subclass']}, which may name anything")
        if element.tag.lower() in _NAMES:
            name = (element.text or "").strip()
            _check_source(
                path.parent / name if said.get("relativetovrt", "0") != "0" else Path(name), depth
            )


def _parse(path: Path) -> ElementTree.Element:
    """Read the XML; what declares entities of its own is none that GDAL wrote."""

    def refuse(*_: object) -> NoReturn:
        raise RasterError("declares a document type, which no VRT needs")

    if path.stat().st_size > _MOST_BYTES:
        raise RasterError(f"is larger than {_MOST_BYTES >> 20} MiB")
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.CharacterDataHandler = builder.data
    parser.EndElementHandler = builder.end
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise RasterError(f"is no XML ({error})") from None
    return builder.close()


def _check_source(source: Path, depth: int) -> None:
    if not source.is_file():
        raise RasterError(f"names {str(source)!r}, which is no file here")
    suffix = source.suffix.lower()
    if suffix == ".vrt":
        check_vrt(source, depth=depth + 1)
        return
    with source.open("rb") as file:
        start = file.read(64)
    is_tiff = suffix in (".tif", ".tiff") and start.startswith(_TIFF)
    if not is_tiff and not (suffix == ".asc" and start.lstrip().lower().startswith(_ASC)):
        raise RasterError(f"names {str(source)!r}, which is neither a GeoTIFF nor an .asc")
