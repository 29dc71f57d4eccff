"""OpenCV's resize of bytes with bilinear interpolation and no filter before it, bit for bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.record import Image

_BITS = 11  # of a weight


def bilinear(image: Image, scale: float) -> Image:
    """Uint8 (H, W, 3) at `scale` (below 1) times its size."""
    above, below, of_above, of_below = _taps(image.shape[0], scale)
    left, right, of_left, of_right = _taps(image.shape[1], scale)
    levels = image.astype(np.int64)
    rows = (levels[:, left] * of_left[:, None] + levels[:, right] * of_right[:, None]) >> 4
    weighted = (of_above[:, None, None] * rows[above] >> 16) + (of_below[:, None, None] * rows[below] >> 16)
    return ((weighted + 2) >> 2).astype(np.uint8)


def _taps(size: int, scale: float) -> tuple[NDArray[np.int64], ...]:
    """For each place: the two neighbors and their weights of _BITS bits."""
    centers = ((np.arange(round(size * scale)) + 0.5) / np.float64(scale) - 0.5).astype(np.float32)
    first = np.floor(centers).astype(np.int64)
    fraction = np.where((first < 0) | (first >= size - 1), np.float32(0), centers - first.astype(np.float32))
    first = first.clip(0, size - 1)
    weights = [np.rint(part * np.float32(2**_BITS)).astype(np.int64) for part in (np.float32(1) - fraction, fraction)]
    return first, np.minimum(first + 1, size - 1), *weights
