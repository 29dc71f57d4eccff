"""How the images of ImageNet-C are cut before they are corrupted, and stored afterwards."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.corruptions import CorruptionDraws, find
from apr_dali.data.image_file import cut, open_image
from apr_dali.errors import InputError
from apr_dali.kernels.jpeg import round_trip
from apr_dali.recipes import STANDARD

QUALITY = 85
"""Of the JPEG files, as in ImageNet-C."""


def enlarged(size: int) -> int:
    """The shorter side of an image, in pixels, before a square of `size` is cut out of its middle: 256 for 224."""
    return round(size * STANDARD.over_crop)


def cropped(file: str, size: int) -> NDArray[np.uint8]:
    """An image file as the corruptions see it: scaled (bilinear, antialiased), then its middle; uint8 (size, size, 3).

    Raises InputError for a file that cannot be decoded, by its path.
    """
    return cut(open_image(file), size, STANDARD, (0.0, 0.0, 0.0))


def as_jpeg(image: NDArray[np.uint8]) -> bytes:
    """Uint8 (H, W, 3) as a JPEG file: quality 85, 4:2:0, with Huffman tables of its own."""
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=QUALITY, optimize=True)
    return encoded.getvalue()


def through_jpeg(images: Any, threads: int | None = None) -> Any:
    """Uint8 (N, H, W, 3), on the CPU or a CUDA device, as they come out of `as_jpeg`'s files, which are not made."""
    return round_trip(images, QUALITY, threads)


def check_needs(corruptions: Sequence[str], side: int, parameter_set: str) -> None:
    """Raise InputError where something that a corruption takes from elsewhere is missing."""
    for name in corruptions:
        record, parameters = find(name, 1, parameter_set)
        record.constants(parameters, side, side)


def check_cells(
    corruptions: Sequence[str], severities: Sequence[int], side: int, seed: int, parameter_set: str = "imagenet"
) -> None:
    """Raise InputError for a corruption and severity that cannot be computed on images of `side` × `side` pixels."""
    if not corruptions or not severities:
        raise InputError("expected at least one corruption and one severity, got none")
    for name in corruptions:
        for severity in severities:
            CorruptionDraws.sample(name, severity, 0, side, side, seed, parameter_set=parameter_set)
    check_needs(corruptions, side, parameter_set)
