"""OpenCV's getAffineTransform and warpAffine, bit for bit as OpenCV 5 computes them with fused multiply-adds.

(Before version 5 OpenCV moved sources to the nearest 1/32 of a pixel. At the right edge, past the last whole 16
columns, its last bits differ.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


def through_points(source: Floats, target: Floats) -> Doubles:
    """The (2, 3) matrix that takes three points (3, 2), x before y, to three others.

    By Gaussian elimination with the largest pivot of each column, in this order of the equations.
    """
    equations = np.zeros((6, 6))
    equations[0::2, :2] = equations[1::2, 3:5] = source
    equations[0::2, 2] = equations[1::2, 5] = 1
    values = target.astype(np.float64).reshape(6)
    for i in range(6):
        pivot = i + int(np.abs(equations[i:, i]).argmax())
        equations[[i, pivot]] = equations[[pivot, i]]
        values[[i, pivot]] = values[[pivot, i]]
        for j in range(i + 1, 6):
            factor = equations[j, i] * (-1 / equations[i, i])
            equations[j, i + 1 :] += factor * equations[i, i + 1 :]
            values[j] += factor * values[i]
    for i in range(5, -1, -1):
        for j in range(i + 1, 6):
            values[i] -= equations[i, j] * values[j]
        values[i] /= equations[i, i]
    return values.reshape(2, 3)


def inverse(matrix: Doubles) -> Floats:
    """The matrix (2, 3) from places in the result to places in the source."""
    (a, b, c), (d, e, f) = matrix
    determinant = a * e - b * d
    scale = 1 / determinant if determinant != 0 else 0.0
    a, b, d, e = e * scale, b * -scale, d * -scale, a * scale
    return np.array([[a, b, -a * c - b * f], [d, e, -d * c - e * f]]).astype(np.float32)


def warp(image: Floats, matrix: Doubles) -> Floats:
    """The image (H, W, C) moved by a matrix (2, 3), mirrored at its edges without repeating them."""
    height, width = image.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    (a, b, c), (d, e, f) = inverse(matrix)
    source_x, source_y = _fused(a, x, y * b + c), _fused(d, x, y * e + f)
    left, above = np.floor(source_x), np.floor(source_y)
    across, down = (source_x - left)[..., None], (source_y - above)[..., None]
    columns = [_mirrored(left.astype(np.int64) + i, width) for i in (0, 1)]
    rows = [_mirrored(above.astype(np.int64) + i, height) for i in (0, 1)]
    upper, lower = (
        _fused(across, image[row, columns[1]] - image[row, columns[0]], image[row, columns[0]]) for row in rows
    )
    return _fused(down, lower - upper, upper)


def _fused(a: Floats, b: Floats, c: Floats) -> Floats:
    """A·b + c rounded once: float64 holds the product of two float32."""
    return np.asarray(np.multiply(a, b, dtype=np.float64) + c, np.float32)


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    index = np.abs(index) % (2 * size - 2)
    return np.where(index >= size, 2 * size - 2 - index, index)
