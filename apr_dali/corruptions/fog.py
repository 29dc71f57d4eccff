"""Fog: a cloud made by the diamond-square algorithm, added to the image, then the whole darkened."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, to_bytes

Map = NDArray[np.float64]
_FIRST_WIBBLE = 100.0


def side(height: int, width: int) -> int:
    """Of the cloud's square map: the least power of two that covers the image. The reference: 256, 64, 32."""
    return 1 << (max(height, width) - 1).bit_length()


def _draw(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    # One for each point but the first corner. The reference draws level by level; the numbers are the same.
    return {"heights": random.random(side(height, width) ** 2 - 1)}


class _Heights:
    """Uniform numbers of 0..1, taken in their order, as `uniform(-wibble, wibble)` of the level."""

    def __init__(self, uniform: Map) -> None:
        self._uniform = uniform
        self._taken = 0

    def around(self, sums: Map, wibble: float) -> Map:
        """The mean of four, given their sum, and a random height."""
        drawn = self._uniform[self._taken : self._taken + sums.size].reshape(sums.shape)
        self._taken += sums.size
        return sums / 4 + wibble * (-wibble + 2 * wibble * drawn)


def cloud(uniform: Map, decay: float) -> Map:
    """The map of 0..1 from side² - 1 uniform numbers: the centers of squares, then those of diamonds, finer and finer.

    The map wraps around. Each step, the span of the random heights is divided by `decay`.
    """
    size = round((len(uniform) + 1) ** 0.5)
    heights, points = _Heights(uniform), np.zeros((size, size))
    step, wibble = size, _FIRST_WIBBLE
    while step >= 2:
        half = step // 2
        corners, centers = points[::step, ::step], points[half::step, half::step]
        pairs = corners + np.roll(corners, -1, axis=0)
        centers[:] = heights.around(pairs + np.roll(pairs, -1, axis=1), wibble)
        above_below = centers + np.roll(centers, 1, axis=0)
        beside = corners + np.roll(corners, -1, axis=1)
        points[::step, half::step] = heights.around(above_below + beside, wibble)
        beside = centers + np.roll(centers, 1, axis=1)
        above_below = corners + np.roll(corners, -1, axis=0)
        points[half::step, ::step] = heights.around(beside + above_below, wibble)
        step, wibble = half, wibble / decay
    points -= points.min()
    return points / points.max()


def _apply(image: Image, draws: Draws, parameters: Parameters) -> Image:
    thickness, decay = parameters
    height, width = image.shape[:2]
    light = image / 255.0
    brightest = light.max()
    foggy = light + thickness * cloud(draws["heights"], decay)[:height, :width, None]
    return to_bytes(foggy * brightest / (brightest + thickness))


FOG = Corruption("fog", _draw, _apply, native=True)
