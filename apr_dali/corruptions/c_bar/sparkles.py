"""Stars of light: sparkles lays five over the image, inverse_sparkles leaves of the image what one star shows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.c_bar.common import Plane, generator_within, grid, share, to_levels
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters

_STARS = 5
_FEWEST, _MOST = 50, 200  # rays of a star, the latter excluded
_SPREAD = 0.25  # standard deviation of a ray's length, of the radius


def _draw_stars(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    centers = random.uniform(0, np.array([height, width]), (_STARS, 2))
    inner = generator_within(random)
    rays = random.randint(_FEWEST, _MOST, _STARS)
    # As many as the stars may need: the first star takes the first ones.
    return {"centers": centers, "rays": rays, "lengths": inner.normal(size=_STARS * (_MOST - 1))}


def _draw_star(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    center = random.uniform(0.25, 0.75, 2) * np.array([height, width])
    inner = generator_within(random)
    return {
        "center": center,
        "rays": np.asarray(random.randint(_FEWEST, _MOST)),
        "lengths": inner.normal(size=_MOST - 1),
    }


def _light(shape: tuple[int, ...], center: NDArray[np.float64], lengths: NDArray[np.float64], power: float) -> Plane:
    """How much light a star gives, 0..1, float64 (H, W, 1). lengths: of its rays, in pixels."""
    rows, columns = grid(*shape[:2])
    y, x = rows - center[0], columns - center[1]
    turn = (np.arctan2(x, y) + np.pi) / (2 * np.pi) * len(lengths)
    ray = turn.astype(int)
    part = turn - ray
    length = lengths[ray % len(lengths)]
    length = length + part * (lengths[(ray + 1) % len(lengths)] - length)
    strength = (length**2 / (y**2 + x**2 + 1e-4)) ** power
    return np.clip((1 - (part - 0.5) ** 2) * strength, 0, 1)[..., None]


def _sparkles(image: Image, draws: Draws, strength: Parameters) -> Image:
    radius = share(strength, 0.1) * min(image.shape[:2])
    out, first = np.asarray(image, np.float64), 0
    for center, rays in zip(draws["centers"], draws["rays"], strict=True):
        lengths = np.maximum(1, radius + _SPREAD * radius * draws["lengths"][first : first + rays])
        first += rays
        out = out.astype(np.float32).astype(np.float64)  # as the reference hands it from star to star
        out = out + _light(image.shape, center, lengths, 1) * (255.0 - out)
    return to_levels(out)


def _inverse(image: Image, draws: Draws, strength: Parameters) -> Image:
    radius = 0.25 * min(image.shape[:2])
    lengths = radius + _SPREAD * radius * draws["lengths"][: draws["rays"]]
    light = _light(image.shape, draws["center"], lengths, share(strength, 65) / 50)
    return to_levels(255 + light * (image.astype(np.float64) - 255))


SPARKLES = Corruption("sparkles", _draw_stars, _sparkles)
INVERSE = Corruption("inverse_sparkles", _draw_star, _inverse)
