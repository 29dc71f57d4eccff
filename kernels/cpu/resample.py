"""Pillow's images made smaller in C++."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cpu.backend import extension


def available() -> bool:
    """Whether the extension was built."""
    try:
        extension()
    except ImportError:
        return False
    return True


def resample(image: Any, width: int, height: int) -> NDArray[np.uint8]:
    """An RGB image of Pillow's by the filter of its BICUBIC, antialiased: uint8 (height, width, 4), the last unused.

    Bit for bit what torch's `interpolate` makes of the levels. Raises ImportError where the extension was not built.
    """
    out = np.empty((height, width, 4), np.uint8)
    extension().resample(_levels(image), out)
    return out


def _levels(image: Any) -> NDArray[np.uint8]:
    """uint8 (H, W, 4): those that the image holds, or a copy where Pillow does not show them."""
    try:
        _, capsule = image.__arrow_c_array__()
        return extension().arrow_levels(capsule, image.height, image.width)
    # Pillow before 11.2; an image that is too large for one piece of memory; pixels that are laid out otherwise.
    except (AttributeError, ValueError):
        return np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8).reshape(image.height, image.width, 4)
