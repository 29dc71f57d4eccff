"""A turning camera and a lens that spreads colors: circular_motion_blur and transverse_chromatic_abberation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.c_bar.common import share, to_levels
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, draw_nothing

_POSITIONS = np.array([2 * k / 20 - 1 for k in range(21)])  # of the turn, -1..1
_WEIGHTS = np.exp(-2 * _POSITIONS**2)


def _circular(image: Image, draws: Draws, strength: Parameters) -> Image:  # noqa: ARG001
    """The mean of 21 turned images, cubic and black outside, by a Gaussian in the angle."""
    from scipy.ndimage import rotate

    most = share(strength, 15)  # degrees
    unit = image.astype(np.float32) / 255
    total = np.zeros_like(unit)
    for position, weight in zip(_POSITIONS, _WEIGHTS, strict=True):
        total += weight * rotate(unit, position * most, reshape=False)
    return to_levels(total / np.float32(sum(_WEIGHTS)) * 255)


def _draw_order(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    return {"order": random.permutation(3)}


def _aberration(image: Image, draws: Draws, strength: Parameters) -> Image:
    """Each color enlarged by another factor about the middle, cubic."""
    from scipy.ndimage import zoom

    more = share(strength, 0.5)
    factors = np.array([1, 1 + more / 2, 1 + more])[draws["order"]]
    height, width = image.shape[:2]
    out = np.empty_like(image)
    for color, factor in enumerate(factors):
        enlarged = zoom(image[..., color], factor, prefilter=False)
        top, left = (enlarged.shape[0] - height) // 2, (enlarged.shape[1] - width) // 2
        out[..., color] = enlarged[top : top + height, left : left + width]
    return out


CIRCULAR_BLUR = Corruption("circular_motion_blur", draw_nothing, _circular)
ABERRATION = Corruption("transverse_chromatic_abberation", _draw_order, _aberration)
