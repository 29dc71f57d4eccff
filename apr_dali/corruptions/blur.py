"""Blurs: gaussian, defocus, glass, motion and zoom.

The reference is written for squares. On other images rows and columns are treated alike: zoom blur cuts and enlarges
each side by the same factor, glass blur leaves the same border on each. Radii stay in pixels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, to_bytes


def draw_nothing(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    """The draws of a corruption that leaves nothing to chance."""
    return {}


def smooth(unit: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """A Gaussian of 4 sigma each way over rows and columns (H, W, C), the border repeated."""
    return ndimage.gaussian_filter(unit, (sigma, sigma, 0), mode="nearest", truncate=4.0)


def _gaussian(image: Image, draws: Draws, sigma: Parameters) -> Image:  # noqa: ARG001
    return to_bytes(smooth(image / 255.0, sigma))


# Defocus: a disk whose edge is softened. OpenCV makes the disk and sums in the types that are written out here.


def disk(radius: float, softness: float) -> NDArray[np.float32]:
    """The weights of a disk of that radius, softened by a Gaussian of `softness` over 3 × 3, or 5 × 5 beyond 8."""
    reach = 8 if radius <= 8 else radius
    across = np.arange(-reach, reach + 1)
    hard = (across[:, None] ** 2 + across**2 <= radius**2).astype(np.float32)
    hard /= hard.sum()
    size = 1 if radius <= 8 else 2
    gauss = np.exp(-(np.arange(-size, size + 1) ** 2) / (2 * softness**2))
    weights = (gauss / gauss.sum()).astype(np.float32)
    for axis in (1, 0):
        hard = ndimage.correlate1d(hard, weights, axis=axis, mode="mirror")
    return hard


def _defocus(image: Image, draws: Draws, parameters: Parameters) -> Image:  # noqa: ARG001
    weights = disk(*parameters).astype(np.float64)
    return to_bytes(ndimage.correlate(image / 255.0, weights[..., None], mode="mirror"))


# Glass: pixels take the places of their neighbours. The reference's swap of two views of one array copies the second
# pixel over the first and swaps nothing: each pixel, from the last to the first, becomes what its neighbour is by then.


def _inner(height: int, width: int, reach: int) -> tuple[int, int]:
    return height - 2 * reach, width - 2 * reach


def _draw_shifts(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:
    _, reach, times = parameters
    return {"shifts": random.randint(-reach, reach, size=(times, *_inner(height, width, reach), 2))}


def _origins(shifts: NDArray[Any], height: int, width: int, reach: int) -> NDArray[np.int64]:
    """Where each pixel of an image (H·W,) comes from after one pass; shifts (rows, columns, 2) are along x and y."""
    source = np.arange(height * width).reshape(height, width)
    # The last pixel is drawn for first.
    source[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] += (shifts @ (1, width))[::-1, ::-1]
    source = source.reshape(-1)
    # A neighbour that was changed before shows what it had become: follow it to where that came from.
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


# Motion: half a Gaussian along a line, as ImageMagick 6 has it.


def _draw_angle(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    return {"angle": np.asarray(random.uniform(-45, 45))}


def line(radius: float, sigma: float, degrees: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The weights (K,) of motion blur and the steps (K, 2), down and to the right, to the pixels that they are of."""
    count = 2 * math.ceil(radius) + 1
    weights = np.array(
        [math.exp(-i * i / (2.0 * sigma * sigma)) / (math.sqrt(2 * math.pi) * sigma) for i in range(count)]
    )
    total = 0.0
    for weight in weights:
        total += weight
    angle = math.radians(degrees)
    down, right = count * math.sin(angle), count * math.cos(angle)
    length = math.hypot(down, right)
    steps = [[math.ceil(i * along / length - 0.5) for along in (down, right)] for i in range(count)]
    return weights / total, np.array(steps)


def move(image: Image, radius: float, sigma: float, degrees: float) -> Image:
    """ImageMagick's motion blur of uint8 (H, W, C): sums of 16-bit levels in float64, the border repeated, rounded to
    16 bits and then truncated to 8."""
    height, width = image.shape[:2]
    levels = image.astype(np.float64) * 257
    total = np.zeros_like(levels)
    for weight, (down, right) in zip(*line(radius, sigma, degrees), strict=True):
        y = np.clip(np.arange(height) + down, 0, height - 1)
        x = np.clip(np.arange(width) + right, 0, width - 1)
        total += weight * levels[y[:, None], x]
    rounded = (np.clip(total, 0, 65535) + 0.5).astype(np.uint16)
    return (rounded // 257).astype(np.uint8)


def _motion(image: Image, draws: Draws, parameters: Parameters) -> Image:
    return move(image, *parameters, float(draws["angle"]))


# Zoom: the mean of the image and of enlarged ones.


def zoomed(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """The middle of an image (H, W, C) enlarged bilinearly by `factor`, in the size and type of the image."""
    height, width = image.shape[:2]
    high, wide = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - high) // 2, (width - wide) // 2
    middle = ndimage.zoom(image[top : top + high, left : left + wide], (factor, factor, 1), order=1)
    top, left = (middle.shape[0] - height) // 2, (middle.shape[1] - width) // 2
    return middle[top : top + height, left : left + width]


def _zoom(image: Image, draws: Draws, factors: Parameters) -> Image:  # noqa: ARG001
    unit = (image / 255.0).astype(np.float32)
    total = np.zeros_like(unit)
    for factor in factors:
        total += zoomed(unit, factor)
    return to_bytes((unit + total) / (len(factors) + 1))


GAUSSIAN = Corruption("gaussian_blur", draw_nothing, _gaussian)
DEFOCUS = Corruption("defocus_blur", draw_nothing, _defocus)
GLASS = Corruption("glass_blur", _draw_shifts, _glass)
MOTION = Corruption("motion_blur", _draw_angle, _motion)
ZOOM = Corruption("zoom_blur", draw_nothing, _zoom)
