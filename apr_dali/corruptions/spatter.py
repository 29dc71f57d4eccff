"""Spatter: drops of water (severities 1 to 3) or mud (4 and 5) on the lens."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.edges import canny, distance, equalized, mean_of_nine, shifted, sum_of_nine
from apr_dali.corruptions.gaussian import half
from apr_dali.corruptions.record import Constants, Corruption, Draws, Image, Parameters, to_bytes

_WATER = np.array([175, 238, 238]) / 255
_MUD = np.array([63, 42, 20]) / 255
_DARK, _BRIGHT = 50, 150  # thresholds of the edges
_DEEP = np.float32(20)  # pixels from the edge, where a drop is deepest
_EMBOSS = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
_LEAST_MUD = 0.8
_CUT = 4  # standard deviations at which the Gaussians end


def _draw(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:
    return {"liquid": random.normal(loc=parameters[0], scale=parameters[1], size=(height, width))}


def _blurred(layer: NDArray[Any], sigma: float) -> NDArray[Any]:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(layer, sigma, mode="nearest", truncate=_CUT)


def _relief(liquid: Image) -> NDArray[np.float32]:
    """The light on the drops: uint8 (H, W) to 0..255."""
    edges = canny(liquid, _DARK, _BRIGHT)
    depth = np.minimum(distance(edges), _DEEP)
    levels = equalized((sum_of_nine(depth, np.float64) * (1 / 9)).astype(np.float32).astype(np.uint8))
    padded = np.pad(levels.astype(np.int64), 1, mode="reflect")
    lit = sum(_EMBOSS[y + 1][x + 1] * shifted(padded, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
    return mean_of_nine(np.clip(lit, 0, 255).astype(np.uint8)).astype(np.float32)


def _apply(image: Image, draws: Draws, parameters: Parameters) -> Image:
    _, _, sigma, threshold, strength, muddy = parameters
    light = image.astype(np.float32) / 255
    liquid = _blurred(draws["liquid"], sigma)
    liquid[liquid < threshold] = 0
    if muddy:
        mud = _blurred((liquid > threshold).astype(np.float32), strength)
        mud[mud < _LEAST_MUD] = 0
        mud = mud[..., None]
        return to_bytes(light * (1 - mud) + _MUD.astype(np.float32) * mud)
    layer = (liquid * 255).astype(np.uint8)
    water = layer * _relief(layer)
    highest = water.max()
    if highest == 0:  # no drop: the reference divides 0 by 0
        return image.copy()
    water = water / highest * np.float32(strength)
    return to_bytes(light + water[..., None] * _WATER.astype(np.float32))


def _constants(parameters: Parameters, height: int, width: int) -> Constants:  # noqa: ARG001
    location, scale, sigma, threshold, strength, muddy = parameters
    mud = half(strength, _CUT) if muddy else np.empty(0)
    return [np.array([location, scale, threshold, strength]), half(sigma, _CUT), mud]


SPATTER = Corruption("spatter", _draw, _apply, _constants, native=True)
