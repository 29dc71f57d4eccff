"""What the spatter takes from OpenCV, on one channel and bit for bit: edges, distances, means and histograms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_ONE = 1 << 15
_TANGENT = 13573  # of 22.5 degrees, times _ONE
# Lengths of a step along an axis, along a diagonal, and of a knight's move.
_STRAIGHT, _DIAGONAL, _KNIGHT = np.float32(1), np.float32(1.4), np.float32(2.1969)
_FAR = np.float32(1e6)


def shifted(padded: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    """The image, of which `padded` has one more pixel on every side, as seen from `down` and `right` of each pixel."""
    height, width = padded.shape
    return padded[1 + down : height - 1 + down, 1 + right : width - 1 + right]


def canny(image: Bytes, low: int, high: int) -> NDArray[np.bool_]:
    """Where the edges are: maxima of the gradient above `low` that touch, by others of them, one above `high`."""
    from scipy.ndimage import label

    padded = np.pad(image.astype(np.int64), 1, mode="edge")
    below, above, right, left = (_three(padded, *side) for side in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    across, down = right - left, below - above
    strength = np.abs(across) + np.abs(down)
    thin = _is_ridge(np.pad(strength, 1), across, down) & (strength > low)
    parts, _ = label(thin, np.ones((3, 3)))
    kept = np.zeros(parts.max() + 1, np.bool_)
    kept[parts[thin & (strength > high)]] = True
    return kept[parts]


def _three(padded: NDArray[Any], down: int, right: int) -> NDArray[Any]:
    """The neighbors on one side, added up with the weights 1, 2, 1."""
    middle = 2 * shifted(padded, down, right)
    if down:
        return middle + shifted(padded, down, -1) + shifted(padded, down, 1)
    return middle + shifted(padded, -1, right) + shifted(padded, 1, right)


def _is_ridge(strength: NDArray[Any], across: NDArray[Any], down: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the strength (padded) is largest along its gradient, whose direction is one of four."""
    middle = shifted(strength, 0, 0)
    flat, steep = _TANGENT * np.abs(across), _ONE * np.abs(down)
    horizontal = (middle > shifted(strength, 0, -1)) & (middle >= shifted(strength, 0, 1))
    vertical = (middle > shifted(strength, -1, 0)) & (middle >= shifted(strength, 1, 0))
    falling = (middle > shifted(strength, -1, -1)) & (middle > shifted(strength, 1, 1))
    rising = (middle > shifted(strength, -1, 1)) & (middle > shifted(strength, 1, -1))
    diagonal = np.where(across ^ down < 0, rising, falling)
    upright = np.where(steep > flat + 2 * _ONE * np.abs(across), vertical, diagonal)
    return np.where(steep < flat, horizontal, upright)


def distance(edges: NDArray[np.bool_]) -> Floats:
    """How far each pixel is from the nearest edge by steps of three kinds: from the top and from the bottom.

    float32, added up step by step; 1e6 and more where there is no edge.
    """
    height, width = edges.shape
    padded = np.full((height + 4, width + 4), _FAR)
    for reach, edge in ((padded, edges), (padded[::-1, ::-1], edges[::-1, ::-1])):
        for y in range(height):
            row = reach[y + 2, 2:-2]
            row[:] = np.where(edge[y], 0, np.minimum(row, _from_rows_before(reach[y], reach[y + 1])))
            while True:
                better = row[:-1] + _STRAIGHT < row[1:]
                if not better.any():
                    break
                row[1:] = np.minimum(row[1:], row[:-1] + _STRAIGHT)
    return padded[2:-2, 2:-2].copy()


def _from_rows_before(second: Floats, last: Floats) -> Floats:
    moves = (
        (last[2:-2], _STRAIGHT),
        (np.minimum(last[1:-3], last[3:-1]), _DIAGONAL),
        (np.minimum(last[:-4], last[4:]), _KNIGHT),
        (np.minimum(second[1:-3], second[3:-1]), _KNIGHT),
    )
    return np.minimum.reduce([start + length for start, length in moves])


def sum_of_nine(image: NDArray[Any], dtype: type) -> NDArray[Any]:
    """Of each pixel and its eight neighbors, mirrored at the edges without repeating them."""
    padded: NDArray[Any] = np.pad(image.astype(dtype), 1, mode="reflect")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[:-2] + rows[1:-1] + rows[2:]


def mean_of_nine(image: Bytes) -> Bytes:
    """Rounded to the nearest."""
    return ((2 * sum_of_nine(image, np.int64) + 9) // 18).astype(np.uint8)


def equalized(image: Bytes) -> Bytes:
    """With a histogram as flat as can be: the lowest level that occurs becomes 0, the highest 255."""
    counts = np.bincount(image.reshape(-1), minlength=256)
    lowest = np.flatnonzero(counts)[0]
    others = image.size - counts[lowest]
    if not others:
        return image
    counts[lowest] = 0
    scale = np.float32(255) / np.float32(others)
    return np.rint(counts.cumsum().astype(np.float32) * scale).astype(np.uint8)[image]
