"""What the C-bar corruptions share: strengths, their second generator, coordinates, and reading between pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.record import Image

Plane = NDArray[np.float64]


def share(strength: float, most: float) -> float:
    """What the strength 10 makes `most`, in the reference's order of operations."""
    return strength * most / 10


def generator_within(random: Any) -> Any:
    """Where the reference draws what is not a parameter: from a generator that it seeds by a number of the first one.

    A `CounterRandom` draws everything itself.
    """
    if not isinstance(random, np.random.RandomState):
        return random
    return np.random.RandomState(random.randint(0, 2**32))


def grid(height: int, width: int) -> tuple[Plane, Plane]:
    """The row (H, 1) and the column (1, W) of each pixel, which broadcast to (H, W)."""
    return np.arange(height, dtype=np.float64)[:, None], np.arange(width, dtype=np.float64)[None]


def to_levels(values: NDArray[np.floating]) -> Image:
    """Levels in 0..255 and beyond as uint8: clipped and truncated."""
    return np.clip(values, 0, 255).astype(np.uint8)


def between(values: NDArray[Any], rows: Plane, columns: Plane) -> Plane:
    """Values (H, W, 3) at places (h, w) between pixels, bilinear; black outside. Returns float64 (h, w, 3)."""
    height, width = values.shape[:2]
    padded = np.zeros((height + 2, width + 2, values.shape[2]))
    padded[1:-1, 1:-1] = values
    pixels = padded.reshape(-1, values.shape[2])
    top, left = np.floor(rows), np.floor(columns)
    right, below = (columns - left)[..., None], (rows - top)[..., None]
    # What is further than a pixel outside is black as the border is.
    top_row, bottom_row = (np.clip(row, 0, height + 1).astype(int) * (width + 2) for row in (top + 1, top + 2))
    left_column, right_column = (np.clip(column, 0, width + 1).astype(int) for column in (left + 1, left + 2))
    upper, lower = (
        pixels.take(row + left_column, axis=0) * (1 - right) + pixels.take(row + right_column, axis=0) * right
        for row in (top_row, bottom_row)
    )
    return upper * (1 - below) + lower * below
