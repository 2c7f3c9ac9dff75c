"""Decode TIFF files of any layout, type and compression to the samples that they hold.

The tags decide what the samples mean; what is not read here is rejected with the tag's name. TIFF
6.0 (Adobe 1992) defines the tags, and GDAL 42113.
"""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from extract.config.arrays import Array, Ints, Pixels
from extract.errors import RejectedTile
from extract.pictures.codecs import load_codecs

# header's bytes: TIFF 6, BigTIFF
_HEADER_BYTES = {
    b"II*\0": 8,
    b"MM\0*": 8,
    b"II+\0": 16,
    b"MM\0+": 16,
}
_NAMES = {
    258: "BitsPerSample",
    259: "Compression",
    262: "PhotometricInterpretation",
    274: "Orientation",
    277: "SamplesPerPixel",
    284: "PlanarConfiguration",
    320: "ColorMap",
    338: "ExtraSamples",
    339: "SampleFormat",
}
_MIN_IS_WHITE = 0
_MIN_IS_BLACK = 1
_PALETTE = 3
_YCBCR = 6
_COLOURS = {_MIN_IS_WHITE, _MIN_IS_BLACK, 2, _PALETTE, _YCBCR}  # 2: RGB
_PLAIN = {_MIN_IS_BLACK, 2}  # whose samples are what is meant
_BITS = {8, 16, 32, 64}
_FEW_BITS = {1, 2, 4}  # spread over 0 … 255, as PNG's
_REAL_FORMATS = {1, 2, 3, 4}  # unsigned, signed, floating point, unstated
_ALPHA = {1, 2}  # multiplied into the colours or not: they stay as they are
_QUIET = threading.Lock()  # the warning filters belong to the whole process


class TiffTags(NamedTuple):
    """What the first picture of a TIFF says of its samples.

    Attributes
    ----------
    width, height : size, and that of the tiles that it is stored in [pixels].
    alpha : what an `ExtraSamples` of alpha says, 0 for none.
    nodata : value of pixels without data; None where GDAL's tag states none.
    """

    width: int
    height: int
    tile_pixels: int
    samples: int
    bits: int
    photometric: int
    compression: int
    planar: int
    alpha: int
    palette: tuple[int, ...]
    nodata: float | None

    @property
    def is_multiplied(self) -> bool:
        """Return whether the colours are multiplied by alpha."""
        return self.alpha == 1


class TiffSamples(NamedTuple):
    """Samples of a TIFF.

    Attributes
    ----------
    image : (height, width), or (height, width, 3) RGB, as stored.
    alpha : (height, width), as stored; None where no sample is marked so.
    is_negative : whether 0 is white.
    """

    image: Array
    alpha: Array | None
    is_negative: bool


def is_tiff(data: bytes) -> bool:
    """Return whether a file begins as TIFF or BigTIFF."""
    return data[:4] in _HEADER_BYTES


def read_tags(data: bytes, *, has_bands: bool = False) -> TiffTags:
    """Read the tags of the first picture.

    Parameters
    ----------
    has_bands : whether samples may be any number, and no colours.

    Raises
    ------
    RejectedTile : samples that are no colours, or not numbers of one type.
    """
    n_bytes = _HEADER_BYTES[data[:4]]
    tags: Any = ImageFileDirectory_v2(data[:n_bytes])
    file = io.BytesIO(data)
    file.seek(tags.next)
    with _QUIET, warnings.catch_warnings():  # Pillow warns of every odd tag
        warnings.simplefilter("ignore")
        tags.load(file)
    extra = _as_tuple(tags.get(338, ()))
    alphas = [value for value in extra if value in _ALPHA]
    bits = _read_one_type(tags)
    found = TiffTags(
        width=int(tags[256]),
        height=int(tags[257]),
        tile_pixels=int(tags.get(322, 0)) * int(tags.get(323, 0)),
        samples=int(tags.get(277, 1)),
        bits=bits,
        photometric=int(tags.get(262, _MIN_IS_BLACK)),
        compression=int(tags.get(259, 1)),
        planar=int(tags.get(284, 1)),
        alpha=alphas[-1] if alphas and not has_bands else 0,
        palette=_as_tuple(tags.get(320, ())),
        nodata=_read_nodata(tags),
    )
    if has_bands:
        _check_bands(found)
    else:
        _check_colours(found, orientation=int(tags.get(274, 1)))
    return found


def _as_tuple(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple) else (int(value),)


def _reject(tag: int, value: object, expected: str) -> RejectedTile:
    return RejectedTile(f"TIFF tag {tag} ({_NAMES[tag]}) is {value}; expected {expected}")


def _read_one_type(tags: Any) -> int:
    """Return the bits of a sample; all have the same."""
    bits = set(_as_tuple(tags.get(258, 1)))
    formats = set(_as_tuple(tags.get(339, 1)))
    if len(bits) > 1 or not bits <= _BITS | _FEW_BITS:
        raise _reject(258, sorted(bits), "one of 1, 2, 4, 8, 16, 32, 64 for all samples")
    if len(formats) > 1 or not formats <= _REAL_FORMATS:
        raise _reject(339, sorted(formats), "integers or floating point, the same for all samples")
    return int(bits.pop())


def _read_nodata(tags: Any) -> float | None:
    text = str(tags.get(42113)).strip("\0 ")
    with suppress(ValueError):  # text that is no number is no nodata value
        return float(text)
    return None


def _check_bands(tags: TiffTags) -> None:
    if tags.photometric not in _PLAIN:
        raise _reject(262, tags.photometric, "grey or RGB, 1 or 2, where [tiles] bands chooses")
    if tags.bits in _FEW_BITS:
        raise _reject(258, tags.bits, "8 or more where [tiles] bands chooses")


def _check_colours(tags: TiffTags, *, orientation: int) -> None:
    photometric = tags.photometric
    if photometric not in _COLOURS:
        raise _reject(262, photometric, "grey, RGB, a palette or YCbCr: 0, 1, 2, 3 or 6")
    is_grey_with_alpha = tags.samples == 2 and tags.alpha
    if tags.samples not in (1, 3, 4) and not is_grey_with_alpha:
        raise _reject(277, tags.samples, "1 or 3 channels, with or without one more")
    if photometric == _YCBCR and orientation != 1:  # the codec turns these, and no others
        raise _reject(274, orientation, "1 beside YCbCr colours")
    if photometric == _PALETTE and len(tags.palette) != 3 << tags.bits:
        raise _reject(320, f"{len(tags.palette)} numbers", "3 for every index")
    if tags.bits in _FEW_BITS and tags.samples > 1:
        raise _reject(258, tags.bits, "8 or more beside several channels")


def decode_tiff(
    data: bytes, tags: TiffTags, bands: tuple[int, int, int] | None = None
) -> TiffSamples:
    """Decode the first picture; alpha and a fourth channel are parted from the colours.

    Parameters
    ----------
    tags : from `read_tags`.
    bands : which become R, G and B, from 1; None for those that the tags say.

    Raises
    ------
    RejectedTile : damaged, packed in a way that is not read, or without such a band.
    """
    codecs = load_codecs()
    try:
        stored = np.asarray(codecs.tiff_decode(data, index=0))
    except (codecs.TiffError, ValueError, RuntimeError, MemoryError) as error:
        raise RejectedTile(
            f"image data damaged or truncated, or not read: {error}; TIFF tag 259 (Compression) is "
            f"{tags.compression}, tag 284 (PlanarConfiguration) is {tags.planar}"
        ) from None
    size = (tags.height, tags.width)
    if stored.shape == (tags.samples, *size):
        stored = np.moveaxis(stored, 0, -1)
    elif stored.shape == size:
        stored = stored[..., np.newaxis]
    if stored.shape != (*size, tags.samples):
        raise RejectedTile(f"TIFF of shape {stored.shape}; its tags say {(*size, tags.samples)}")
    if bands is None:
        return _part(stored, tags)
    if max(bands) > tags.samples:
        raise RejectedTile(f"TIFF of {tags.samples} bands; [tiles] bands names {max(bands)}")
    chosen = stored[..., np.array(bands) - 1]
    return TiffSamples(np.ascontiguousarray(chosen), alpha=None, is_negative=False)


def _part(stored: Array, tags: TiffTags) -> TiffSamples:
    """Part colours, (height, width, samples), from what else there is."""
    alpha = np.ascontiguousarray(stored[..., -1]) if tags.alpha else None
    image = stored[..., :3] if tags.samples >= 3 else stored[..., 0]
    if tags.photometric == _PALETTE:
        image = _look_up(image, tags)
    elif tags.bits in _FEW_BITS:
        most = (1 << tags.bits) - 1
        image = image.astype(np.uint8) * np.uint8(255 // most)
    return TiffSamples(
        image=np.ascontiguousarray(image),
        alpha=alpha,
        is_negative=tags.photometric == _MIN_IS_WHITE,
    )


def _look_up(indices: Array, tags: TiffTags) -> Pixels:
    """Return the colours of a palette's indices, (height, width, 3)."""
    table: Ints = np.array(tags.palette).reshape(3, -1)
    if table.max() > 255:  # some writers keep 8 bits
        table = table >> 8
    colours: Pixels = table.T.astype(np.uint8)
    return colours[indices.astype(np.intp)]
