"""How an image file becomes 8-bit RGB, and is cut: the one place that decodes image files outside DALI.

Levels are those that DALI gives: 16 bits are scaled to 8, floating-point ones count from 0 to 1. Pillow's own
`convert("RGB")` cuts both off at 255.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.errors import InputError
from apr_dali.recipes import Scaling

# Pillow opens 16 gray bits of these as 32.
_SIXTEEN_BITS_AS_32 = ("PNG", "PPM")
_BITS_PER_SAMPLE, _ORIENTATION = 258, 274  # of TIFF
TURNED = "TIFF that says it lies on its side or mirrored, which some decoders follow and some do not: save it upright"

NO_INK = "CMYK without Adobe's marker: decoders take its levels for ink or for the lack of it; save it as RGB"


def open_image(source: str | PathLike[str] | BinaryIO) -> Image.Image:
    """An image file, or an open one, decoded as RGB, 0..255; its EXIF orientation is not looked at.

    Raises:
        InputError: for a file that cannot be decoded, or whose levels have no known range; with its path.
    """
    try:
        with Image.open(source) as image:
            # Pillow turns these, and no other format.
            if image.format == "TIFF" and image.getexif().get(_ORIENTATION, 1) != 1:
                raise InputError(TURNED)
            return to_rgb(image)
    # A broken image may raise anything.
    except Exception as error:
        name = getattr(source, "name", "an image") if hasattr(source, "read") else source
        raise InputError(f"{name} cannot be decoded ({error})") from error


@contextmanager
def any_size() -> Iterator[None]:
    """Within it Pillow opens images of any size, as DALI does: its limit is against what strangers have sent."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, 0..255; transparency is left out, as ever in this field.

    16 gray bits v become round(v / 257), floating-point levels v in 0..1 round(255·v), as DALI has it.

    Raises:
        InputError: for levels of no known range: 32-bit integers, floating-point ones outside 0..1, and CMYK of a JPEG
            without Adobe's marker.
    """
    if no_ink_known(image):
        raise InputError(NO_INK)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS_AS_32):
        return _gray(np.asarray(image) / _greatest(image))
    if image.mode == "I":
        raise InputError("32-bit integer levels have no known range: save the image with 8 or 16 bits")
    if image.mode == "F":
        levels = np.asarray(image)
        if not ((levels >= 0) & (levels <= 1)).all():  # nan is refused too
            raise InputError(
                f"floating-point levels must be in 0..1, got {levels.min():g}..{levels.max():g}: save the image with "
                "8 or 16 bits"
            )
        return _gray(levels.astype(np.float64))
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise InputError(f"an image of the mode {image.mode} cannot be made RGB ({error}): convert it first") from error


def no_ink_known(image: Image.Image) -> bool:
    """Whether an image, decoded or not, is a CMYK JPEG that does not say how its levels are meant."""
    return image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info


def _greatest(image: Image.Image) -> int:
    """The level of white: a TIFF may hold 12 bits."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return int(2 ** bits[0] - 1)


def _gray(shares: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(255 * shares).astype(np.uint8)).convert("RGB")


_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def cut(image: Image.Image, size: int, scaling: Scaling, mean: Sequence[float]) -> NDArray[np.uint8]:
    """An RGB image as a network of size × size pixels sees it: uint8 (size, size, 3).

    mean: the network's, in 0..1: the color beside an image that does not fill its crop, see `Scaling`.
    """
    height, width = scaling.resized(image.height, image.width, size)
    scaled = image.resize((width, height), _FILTERS[scaling.filter])
    left, top = (_start(side - size) for side in scaled.size)
    whole = Image.new("RGB", (size, size), scaling.border(mean))
    whole.paste(scaled, (-left, -top))
    return np.asarray(whole)


def _start(margin: int) -> int:
    # Python rounds half to even, as torchvision does; it pads less on the left.
    return round(margin / 2) if margin >= 0 else -(-margin // 2)
