"""Images bent out of shape: pinch_and_twirl and ripple."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.c_bar.common import between, grid, share, to_levels
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters

_CELLS = 3  # along a side, each with a twirl of its own


def _draw_turns(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    return {"backwards": random.randint(0, 2, (_CELLS, _CELLS))}


def _pinch_and_twirl(image: Image, draws: Draws, strength: Parameters) -> Image:
    """Each cell of a 3 × 3 grid twirls within the circle inside of it; what the division leaves over stays."""
    cell = np.array(image.shape[:2]) // _CELLS
    radius, pinch = min(cell) / 2, share(strength, 0.4) + 0.1
    rows, columns = grid(*(cell * _CELLS))
    centers = [(places // size) * size + size / 2 for places, size in zip((rows, columns), cell, strict=True)]
    y, x = rows - centers[0], columns - centers[1]
    distance = np.sqrt(y**2 + x**2)
    # A column of cells after the other, as the reference draws them.
    backwards = draws["backwards"][(columns // cell[1]).astype(int), (rows // cell[0]).astype(int)]
    inside = (distance <= radius) & (np.round(distance, 3) != 0)
    share_of_radius = np.where(inside, distance / radius, 1)
    angle = np.where(backwards, -1, 1) * share(strength, np.pi / 2) * (1 - share_of_radius) ** 2
    factor = np.where(inside, np.sin(np.pi * 0.5 * share_of_radius) ** -pinch, 1)
    y, x = y * factor, x * factor
    turned = between(
        image,
        np.where(inside, centers[0] + (y * np.cos(angle) - x * np.sin(angle)), rows),
        np.where(inside, centers[1] + (y * np.sin(angle) + x * np.cos(angle)), columns),
    )
    out = image.copy()
    out[: len(turned), : turned.shape[1]] = to_levels(turned.astype(np.float32))
    return out


def _draw_waves(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    # Down, then across.
    return {
        "wavelengths": random.uniform(0.1, 0.3, 2) * min(height, width),
        "phases": random.uniform(0, 2 * np.pi, 2),
    }


def _ripple(image: Image, draws: Draws, strength: Parameters) -> Image:
    reach = share(strength, 0.025) * min(image.shape[:2])
    rows, columns = (
        places + reach * np.sin(2 * np.pi * places / wavelength + phase)
        for places, wavelength, phase in zip(grid(*image.shape[:2]), draws["wavelengths"], draws["phases"], strict=True)
    )
    return to_levels(between(image, *np.broadcast_arrays(rows, columns)))


PINCH_AND_TWIRL = Corruption("pinch_and_twirl", _draw_turns, _pinch_and_twirl)
RIPPLE = Corruption("ripple", _draw_waves, _ripple)
