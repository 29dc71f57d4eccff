"""What the header of an image file says that DALI would decode to something else, or not at all.

DALI's decoders take 15 for nearly black where a header says that it is white, colors of one kind for those of another,
and levels of no known range for white. Such files are refused by their headers, whatever they are called.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from apr_dali.data.image_file import NO_INK, TURNED, no_ink_known, to_rgb
from apr_dali.errors import InputError

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG_TIFF = 43
# Tags of TIFF.
_WIDTH, _BITS, _COMPRESSION, _COLORS, _ORIENTATION, _SAMPLES, _EXTRA, _FORMAT = 256, 258, 259, 262, 274, 277, 338, 339
_UNSIGNED, _FLOAT = 1, 3  # of _FORMAT
_RGB, _PALETTE, _CMYK = 2, 3, 5
_PREMULTIPLIED = 1  # of _EXTRA
_SAMPLES_OF = {0: 1, 1: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, 6: 3}
"""Samples a pixel of each kind of colors that DALI knows; 0 and 1 are gray, 6 is YCbCr."""
_BITS_OF = {_PALETTE: (4, 8), _CMYK: (8,)}
"""Bits per sample, where not all of 1, 8, 12 and 16 will do."""
_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946, 50000)
_REMEDY = "save the image with 8 or 16 bits"

_PNM_START = 2048
"""Bytes in which the numbers at the beginning of a PNM file are looked for: there may be comments."""
_BLANK = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P[56]%b\d+%b\d+%b(\d+)\s" % (_BLANK, _BLANK, _BLANK))
_WHITES = (255, 65535)

_BMP_HEADER = 66  # bytes with the masks of the colors
_BITFIELDS = 3
_MASKS = (0xFF0000, 0xFF00, 0xFF)


def why_misread(file: BinaryIO) -> str | None:
    """Why DALI would not decode a TIFF, PNM or BMP file as its header says; None for others, and where it would.

    Reads the header, and of a TIFF's floating-point levels the image. None too where the header cannot be read: why it
    is broken says the decoder.
    """
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start.startswith(TIFF):
        try:
            return _why_no_tiff(file)
        except Exception:  # noqa: BLE001 - a broken file may raise anything, tags are parsed when they are looked at
            return None
    if start.startswith((b"P2", b"P3")):
        return "PNM with its levels as text, which DALI does not decode: save it as PNG"
    if start.startswith((b"P5", b"P6")):
        found = _PNM.match(file.read(_PNM_START))
        if found and int(found[1]) not in _WHITES:
            return f"PNM whose white is {int(found[1])}, of which DALI knows 255 and 65535 alone: save it as PNG"
    return _why_no_bmp(file.read(_BMP_HEADER)) if start.startswith(b"BM") else None


def why_no_ink(file: BinaryIO) -> str | None:
    """Why the colors of a JPEG with four channels are not known, if they are not."""
    try:
        with Image.open(file) as image:
            return NO_INK if no_ink_known(image) else None
    except Exception:  # noqa: BLE001 - a broken file may raise anything
        return None


def _why_no_bmp(header: bytes) -> str | None:
    if len(header) < _BMP_HEADER or int.from_bytes(header[14:18], "little") < 40:
        return None  # broken, or of an age that had 24 bits and palettes alone
    bits, compression = struct.unpack_from("<HI", header, 28)
    if bits == 16 or (compression == _BITFIELDS and struct.unpack_from("<3I", header, 54) != _MASKS):
        return f"BMP of {bits} bits per pixel in an order that DALI does not follow: save it as PNG"
    return None


def _why_no_tiff(file: BinaryIO) -> str | None:
    tags = _tags(file)
    if _WIDTH not in tags:
        return None
    if _BITS not in tags:
        return f"TIFF that does not say how many bits its levels have: {_REMEDY}"
    bits, formats = tags[_BITS], tags.get(_FORMAT, (_UNSIGNED,))
    if max(bits) <= 16 and set(formats) == {_UNSIGNED}:
        return _why_no_colors(tags, max(bits))
    kind = f"levels of {max(bits)} bits in TIFF's sample format {', '.join(map(str, sorted(set(formats))))}"
    unknown = f"{kind} have no known range: {_REMEDY}, unsigned"
    try:
        file.seek(0)
        with Image.open(file) as image:
            to_rgb(image)
    except InputError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - a broken file may raise anything
        return unknown
    return _why_no_colors(tags, 16) if set(formats) == {_FLOAT} else unknown


def _tags(file: BinaryIO) -> ImageFileDirectory_v2:
    """The tags of a TIFF's first image."""
    start = file.read(8)
    tags = ImageFileDirectory_v2(start + (file.read(8) if _BIG_TIFF in start[2:4] else b""))
    file.seek(tags.next)
    tags.load(file)
    return tags


def _why_no_colors(tags: ImageFileDirectory_v2, bits: int) -> str | None:
    """What DALI makes of a TIFF's samples that is not what its tags say."""
    colors, samples = tags.get(_COLORS), tags.get(_SAMPLES, 1)
    compression, extra = tags.get(_COMPRESSION, 1), _several(tags.get(_EXTRA, ()))
    if tags.get(_ORIENTATION, 1) != 1:
        return TURNED
    if colors not in _SAMPLES_OF:
        return f"TIFF of colors of the kind {colors}: DALI decodes gray, RGB, palettes, CMYK and YCbCr; save it as RGB"
    if samples < _SAMPLES_OF[colors] or (samples > _SAMPLES_OF[colors] and colors != _RGB) or _PREMULTIPLIED in extra:
        return f"TIFF of {samples} samples per pixel, of which DALI mixes transparency into the colors: save it as RGB"
    if bits not in _BITS_OF.get(colors, (1, 8, 12, 16)):
        return f"TIFF of {bits} bits per sample, which DALI does not decode: save it as RGB with 8 bits"
    if compression not in _COMPRESSIONS:
        return f"TIFF of the compression {compression}, which DALI does not decode: save it with another"
    return None


def _several(value: int | Sequence[int]) -> Sequence[int]:
    return (value,) if isinstance(value, int) else value
