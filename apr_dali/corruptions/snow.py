"""Snow: blown flakes of thresholded noise, on a whitened image. Sides are enlarged alike, as in zoom blur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.blur import line_weights, move, zoom_sources, zoomed
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, fused_sum, to_bytes


def _draw(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:
    location, scale, *_ = parameters
    return {
        "flakes": random.normal(loc=location, scale=scale, size=(height, width)),
        "angle": np.asarray(random.uniform(-135, -45)),
    }


def flakes(draws: Draws, parameters: Parameters) -> NDArray[np.uint8]:
    """The layer of snow, uint8 (H, W)."""
    _, _, factor, threshold, radius, sigma, _ = parameters
    layer = zoomed(draws["flakes"][..., None], factor)
    layer = to_bytes(np.where(layer < threshold, 0, layer))
    return move(layer, radius, sigma, float(draws["angle"]))[..., 0]


def gray(unit: NDArray[Any]) -> NDArray[Any]:
    """The lightness (H, W, 1) of a float32 image as OpenCV has it."""
    red, green, blue = (unit[..., c : c + 1] for c in range(3))
    return fused_sum([(green, 0.587), (red, 0.299), (blue, 0.114)])


def _apply(image: Image, draws: Draws, parameters: Parameters) -> Image:
    kept = parameters[-1]
    unit = image.astype(np.float32) / 255
    white = kept * unit + (1 - kept) * np.maximum(unit, gray(unit) * 1.5 + 0.5)
    layer = flakes(draws, parameters)[..., None] / 255.0
    return to_bytes(white + layer + np.rot90(layer, k=2))


def _constants(parameters: Parameters, height: int, width: int) -> Sequence[NDArray[np.float64]]:
    location, scale, factor, threshold, radius, sigma, kept = parameters
    numbers = np.array([location, scale, threshold, kept])
    return [numbers, line_weights(radius, sigma), zoom_sources(height, factor), zoom_sources(width, factor)]


SNOW = Corruption("snow", _draw, _apply, _constants, native=True)
