"""Pixelate and JPEG compression, both Pillow's; nothing is drawn."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from apr_dali.corruptions.record import Constants, Corruption, Draws, Image, Parameters, draw_nothing

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47),
    (18, 21, 26, 66),
    (24, 26, 56, 99),
    (47, 66, 99, 99),
)


def _pixelate(image: Image, draws: Draws, scale: Parameters) -> Image:  # noqa: ARG001
    height, width = image.shape[:2]
    # The reference, written for a square, takes the same share of its side for both.
    small = PillowImage.fromarray(image).resize((int(width * scale), int(height * scale)), PillowImage.Resampling.BOX)
    return np.array(small.resize((width, height), PillowImage.Resampling.BOX))


def through_jpeg(image: Image, quality: int) -> Image:
    """Uint8 (H, W, 3) as it comes out of a JPEG file that Pillow writes, 4:2:0, and reads. quality: 1 to 100."""
    encoded = io.BytesIO()
    PillowImage.fromarray(image).save(encoded, "JPEG", quality=quality)
    return np.array(PillowImage.open(encoded))


def jpeg_steps(quality: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What such a file's points of the DCT are multiples of, whole numbers (8, 8) for luma and for chroma.

    They are the tables of the specification (ITU-T T.81, Annex K.1), scaled as libjpeg does it.
    """
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    chroma = np.full((8, 8), 99)
    chroma[:4, :4] = _CHROMA
    luma, chroma = (np.clip((np.array(table) * percent + 50) // 100, 1, 255) for table in (_LUMA, chroma))
    return luma.astype(np.float64), chroma.astype(np.float64)


def _jpeg(image: Image, draws: Draws, quality: Parameters) -> Image:  # noqa: ARG001
    return through_jpeg(image, quality)


def _steps(quality: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    return jpeg_steps(quality)


PIXELATE = Corruption("pixelate", draw_nothing, _pixelate, native=True)
JPEG = Corruption("jpeg_compression", draw_nothing, _jpeg, constants=_steps, native=True)
