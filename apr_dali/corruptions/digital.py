"""Pixelate and JPEG compression, both Pillow's; nothing is drawn."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image as PillowImage

from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, draw_nothing


def _pixelate(image: Image, draws: Draws, scale: Parameters) -> Image:  # noqa: ARG001
    height, width = image.shape[:2]
    # The reference, written for a square, takes the same share of its side for both.
    small = PillowImage.fromarray(image).resize((int(width * scale), int(height * scale)), PillowImage.Resampling.BOX)
    return np.array(small.resize((width, height), PillowImage.Resampling.BOX))


def _jpeg(image: Image, draws: Draws, quality: Parameters) -> Image:  # noqa: ARG001
    encoded = io.BytesIO()
    PillowImage.fromarray(image).save(encoded, "JPEG", quality=quality)
    return np.array(PillowImage.open(encoded))


PIXELATE = Corruption("pixelate", draw_nothing, _pixelate, native=True)
JPEG = Corruption("jpeg_compression", draw_nothing, _jpeg, library=True)
