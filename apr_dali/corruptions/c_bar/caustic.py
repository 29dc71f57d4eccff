"""Caustic refraction: the image at the bottom of moving water, displaced and lit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.c_bar.common import Plane, between, grid, share
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, to_bytes

_INDEX = 4.0  # of refraction
_TURN = 6.28318530718
_STEPS = 5
_STRAIGHT = 1e-3  # a normal that is nearer to the ray than this leaves it unbent


def _draw(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    return {
        "time": np.asarray(random.uniform(0.5, 2)),
        "size": np.asarray(random.uniform(0.75, 1.25) * min(height, width)),
    }


def _caustics(height: int, width: int, time: float, size: float) -> Plane:
    """The pattern of light on the ground, 0..1, float64 (H, W)."""
    y, x = ((places / size) % 1 * _TURN - 250 for places in grid(height, width))
    row, column = y, x
    brightness = np.ones((height, width))
    for n in range(_STEPS):
        t = time * (1 - 3.5 / (n + 1))
        row, column = (
            y + (np.cos(t - row) + np.sin(t + column)),
            x + (np.sin(t - column) + np.cos(t + row)),
        )
        brightness += 1 / np.sqrt((y / (np.sin(row + t) / 0.005)) ** 2 + (x / (np.cos(column + t) / 0.005)) ** 2)
    return np.clip(np.abs(1.17 - (brightness / _STEPS) ** 1.4) ** 8, 0, 1)


def _bend(cosine: Plane) -> Plane:
    """By which multiple of its normal, of length 1, the surface moves a place sideways. cosine: of the angle a below.

    A vertical ray with the angle a to the normal goes on at the angle b to it, in the plane of both, with
    sin b = sin a / _INDEX.
    """
    straight = cosine >= 1 - _STRAIGHT
    angle = np.where(straight, 1.0, np.arccos(cosine))
    bent = np.arcsin(np.sin(angle) / _INDEX)
    return np.where(straight, 0, np.cos(bent) - np.sin(bent) * cosine / np.sin(angle))


def _apply(image: Image, draws: Draws, strength: Parameters) -> Image:
    from scipy.ndimage import gaussian_filter

    height, width = image.shape[:2]
    light = gaussian_filter(_caustics(height, width, float(draws["time"]), float(draws["size"])), sigma=1)
    padded = np.pad(light, 1)
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    right = padded[1:-1, 2:] - padded[1:-1, :-2]
    length = np.sqrt(down**2 + right**2 + 1)
    reach = _bend(1 / length) * share(strength, 0.5 * min(height, width))
    rows, columns = grid(height, width)
    moved = between(
        image.astype(np.float32) / 255,
        rows + np.round(down / length * reach, 3),
        columns + np.round(right / length * reach, 3),
    )
    gain = share(strength, 2)
    return to_bytes(moved + (-right * gain)[..., None] + (down * gain)[..., None])


REFRACTION = Corruption("caustic_refraction", _draw, _apply)
