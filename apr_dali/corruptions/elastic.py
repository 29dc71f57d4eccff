"""Elastic transform: a random affine map, then a random displacement of every pixel that changes smoothly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.affine import through_points, warp
from apr_dali.corruptions.gaussian import half
from apr_dali.corruptions.record import Constants, Corruption, Draws, Image, Parameters, to_bytes

_CUT = 3  # standard deviations at which the Gaussian ends


def _draw(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:
    reach = parameters[2]
    return {
        "corners": random.uniform(-reach, reach, size=(3, 2)),
        "across": random.uniform(-1, 1, size=(height, width)),
        "down": random.uniform(-1, 1, size=(height, width)),
    }


def matrix(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """The affine map (2, 3) that moves three corners of a square about the middle by `corners` (3, 2), in pixels.

    As in the reference, the middle has its two coordinates in the order (row, column) and is taken as (x, y): in an
    image that is not square it lies elsewhere.
    """
    middle = np.array([height // 2, width // 2], np.float32)
    reach = min(height, width) // 3
    points = np.array([middle + reach, [middle[0] + reach, middle[1] - reach], middle - reach], np.float32)
    return through_points(points, points + corners.astype(np.float32))


def _smooth(noise: NDArray[np.float64], length: float, sigma: float) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    return (gaussian_filter(noise, sigma, mode="reflect", truncate=_CUT) * length).astype(np.float32)


def _apply(image: Image, draws: Draws, parameters: Parameters) -> Image:
    from scipy.ndimage import map_coordinates

    length, sigma, _ = parameters
    height, width = image.shape[:2]
    moved = warp(image.astype(np.float32) / np.float32(255), matrix(draws["corners"], height, width))
    row = np.arange(height)[:, None] + _smooth(draws["down"], length, sigma)
    column = np.arange(width) + _smooth(draws["across"], length, sigma)
    channels = [map_coordinates(moved[..., c], [row, column], order=1, mode="reflect") for c in range(3)]
    return to_bytes(np.stack(channels, axis=-1))


def _constants(parameters: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    length, sigma, reach = parameters
    return [np.array([length, reach], np.float64), half(sigma, _CUT)]


ELASTIC = Corruption("elastic_transform", _draw, _apply, _constants, native=True)
