"""Blurs: gaussian, defocus, glass, motion and zoom.

The reference is written for squares. On other images rows and columns are treated alike: zoom blur cuts and enlarges
each side by the same factor, glass blur leaves the same border on each. Radii stay in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from apr_dali.corruptions import gaussian
from apr_dali.corruptions.record import (
    Constants,
    Corruption,
    Draws,
    Image,
    Parameters,
    draw_nothing,
    fused_sum,
    to_bytes,
)

_CUT = 4.0
"""Standard deviations after which scikit-image cuts a Gaussian."""


def smooth(unit: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """A Gaussian of 4 sigma each way over rows and columns (H, W, C), the border repeated."""
    return ndimage.gaussian_filter(unit, (sigma, sigma, 0), mode="nearest", truncate=_CUT)


def _gaussian_constants(sigma: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    return [gaussian.half(sigma, _CUT)]


def _gaussian(image: Image, draws: Draws, sigma: Parameters) -> Image:  # noqa: ARG001
    return to_bytes(smooth(image / 255.0, sigma))


# Defocus: a disk whose edge is softened.


def _rounded(terms: Sequence[tuple[NDArray[np.float32], float]]) -> NDArray[np.float32]:
    """Σ values · weight in float32, each rounded by itself."""
    total = terms[0][0] * terms[0][1]
    for values, weight in terms[1:]:
        total = total + values * weight
    return total


def _taps(image: NDArray[np.float32], weights: NDArray[np.float32]) -> list[tuple[NDArray[np.float32], float]]:
    """Each row with its weight, and the sums of the rows at either side with theirs; the border is mirrored."""
    size, count = len(weights) - 1, len(image)
    padded = np.pad(image, ((size, size), (0, 0)), mode="reflect")
    pairs = [padded[size - k : size - k + count] + padded[size + k : size + k + count] for k in range(1, size + 1)]
    return list(zip([image, *pairs], weights.tolist(), strict=True))


def disk(radius: float, softness: float) -> NDArray[np.float32]:
    """The weights of a disk of that radius, softened by a Gaussian of `softness` over 3 × 3, or 5 × 5 beyond 8.

    A weight's last bit shows in a few levels, so that the Gaussian is summed in the order and with the roundings that
    OpenCV has with vectors of float32.
    """
    reach, size = (8, 1) if radius <= 8 else (int(radius), 2)
    across = np.arange(-reach, reach + 1)
    hard = (across[:, None] ** 2 + across**2 <= radius**2).astype(np.float32)
    hard /= hard.sum()
    gauss = np.exp(-(np.arange(-size, size + 1) ** 2) / (2 * softness**2))
    weights = (gauss / gauss.sum()).astype(np.float32)[size:]
    taps = _taps(np.ascontiguousarray(hard.T), weights)
    soft = fused_sum(taps if size == 2 else taps[::-1]).T
    taps = _taps(soft, weights)
    # What does not fill a vector of 16 is summed without fusing.
    whole = len(hard) // 16 * 16
    return np.hstack([fused_sum(taps)[:, :whole], _rounded(taps)[:, whole:]])


def _defocus(image: Image, draws: Draws, parameters: Parameters) -> Image:  # noqa: ARG001
    weights = disk(*parameters).astype(np.float64)
    return to_bytes(ndimage.correlate(image / 255.0, weights[..., None], mode="mirror"))


def _defocus_constants(parameters: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    return [disk(*parameters).astype(np.float64)]


# Glass: pixels take the places of their neighbors. The reference's swap of two views of one array copies the second
# pixel over the first and swaps nothing: each pixel, from the last to the first, becomes what its neighbor is by then.


def _inner(height: int, width: int, reach: int) -> tuple[int, int]:
    return height - 2 * reach, width - 2 * reach


def _draw_shifts(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:
    _, reach, times = parameters
    return {"shifts": random.randint(-reach, reach, size=(times, *_inner(height, width, reach), 2))}


def _origins(shifts: NDArray[Any], height: int, width: int, reach: int) -> NDArray[np.int64]:
    """Where each pixel of an image (H·W,) comes from after one pass; shifts (rows, columns, 2) are along x and y."""
    source = np.arange(height * width)
    inner = source.reshape(height, width)[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1]
    # The last pixel is drawn for first.
    inner += (shifts[..., 1] * width + shifts[..., 0])[::-1, ::-1]
    # A neighbor that was changed before shows what it had become: follow it to where that came from.
    origin = source.copy()
    moving = np.flatnonzero(source > np.arange(len(source)))
    while len(moving):
        here = origin[moving]
        origin[moving] = source[here]
        moving = moving[source[here] > here]
    return origin


def _glass(image: Image, draws: Draws, parameters: Parameters) -> Image:
    sigma, reach, times = parameters
    height, width = image.shape[:2]
    pixels = (smooth(image / 255.0, sigma) * 255).astype(np.uint8).reshape(-1, 3)
    for shifts in draws["shifts"].reshape(times, *_inner(height, width, reach), 2):
        pixels = pixels[_origins(shifts, height, width, reach)]
    return to_bytes(smooth(pixels.reshape(image.shape) / 255.0, sigma))


def _glass_constants(parameters: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    sigma, reach, times = parameters
    return [np.array([reach, times], np.float64), gaussian.half(sigma, _CUT)]


# Motion: half a Gaussian along a line, as ImageMagick 6 has it.


def _draw_angle(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    return {"angle": np.asarray(random.uniform(-45, 45))}


def line_weights(radius: float, sigma: float) -> NDArray[np.float64]:
    """The weights (K,) of the pixels along the line."""
    count = 2 * math.ceil(radius) + 1
    scale = math.sqrt(2 * math.pi) * sigma
    weights = [math.exp(-i * i / (2.0 * sigma * sigma)) / scale for i in range(count)]
    total = 0.0
    for weight in weights:  # one after another: `sum` may be more exact than ImageMagick
        total += weight
    return np.array(weights) / total


def line_steps(count: int, degrees: float) -> list[tuple[int, int]]:
    """How far down and to the right of a pixel those along the line lie."""
    angle = math.radians(degrees)
    down, right = count * math.sin(angle), count * math.cos(angle)
    length = math.hypot(down, right)
    return [(math.ceil(i * down / length - 0.5), math.ceil(i * right / length - 0.5)) for i in range(count)]


def move(image: Image, radius: float, sigma: float, degrees: float) -> Image:
    """ImageMagick's motion blur of uint8 (H, W, C): sums of 16-bit levels in float64, the border repeated, rounded to
    16 bits and then truncated to 8."""
    height, width = image.shape[:2]
    levels = image.astype(np.float64) * 257
    total = np.zeros_like(levels)
    weights = line_weights(radius, sigma)
    for weight, (down, right) in zip(weights, line_steps(len(weights), degrees), strict=True):
        y = np.clip(np.arange(height) + down, 0, height - 1)
        x = np.clip(np.arange(width) + right, 0, width - 1)
        total += weight * levels[y[:, None], x]
    rounded = (np.clip(total, 0, 65535) + 0.5).astype(np.uint16)
    return (rounded // 257).astype(np.uint8)


def _motion(image: Image, draws: Draws, parameters: Parameters) -> Image:
    radius, sigma = parameters
    return move(image, radius, sigma, float(draws["angle"]))


def _motion_constants(parameters: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    return [line_weights(*parameters)]


# Zoom: the mean of the image and of enlarged ones.


def zoomed(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """The middle of an image (H, W, C) enlarged bilinearly by `factor`, in the size and type of the image."""
    height, width = image.shape[:2]
    high, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - high) // 2, (width - wide) // 2
    middle = ndimage.zoom(image[top : top + high, left : left + wide], (factor, factor, 1), order=1)
    top, left = (middle.shape[0] - height) // 2, (middle.shape[1] - width) // 2
    return middle[top : top + height, left : left + width]


@cache
def zoom_sources(size: int, factor: float) -> NDArray[np.float64]:
    """Of each of `size` rows (or columns) of `zoomed` the row it lies behind, and the weights of that and the next."""
    kept = math.ceil(size / factor)
    weights = ndimage.zoom(np.eye(kept), (factor, 1), order=1)
    weights = weights[(len(weights) - size) // 2 :][:size]
    first = np.minimum(np.argmax(weights > 0, axis=1), kept - 2)
    # For some sizes SciPy rounds the last place to one outside of the image, where there is nothing.
    first[~weights.any(axis=1)] = kept - 2
    rows = np.arange(size)
    return np.stack([first + (size - kept) // 2, weights[rows, first], weights[rows, first + 1]], axis=1)


def _zoom_constants(factors: Parameters, height: int, width: int) -> Constants:
    return [np.stack([zoom_sources(size, float(factor)) for factor in factors]) for size in (height, width)]


def _zoom(image: Image, draws: Draws, factors: Parameters) -> Image:  # noqa: ARG001
    unit = (image / 255.0).astype(np.float32)
    total = np.zeros_like(unit)
    for factor in factors:
        total += zoomed(unit, factor)
    return to_bytes((unit + total) / (len(factors) + 1))


GAUSSIAN = Corruption("gaussian_blur", draw_nothing, _gaussian, _gaussian_constants, native=True)
DEFOCUS = Corruption("defocus_blur", draw_nothing, _defocus, _defocus_constants, native=True)
GLASS = Corruption("glass_blur", _draw_shifts, _glass, _glass_constants, native=True)
MOTION = Corruption("motion_blur", _draw_angle, _motion, _motion_constants, native=True)
ZOOM = Corruption("zoom_blur", draw_nothing, _zoom, _zoom_constants, native=True)
