"""Perlin noise: turbulence of five octaves, blended with the image (Perlin, "An image synthesizer", SIGGRAPH 1985)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.c_bar.common import Plane, generator_within, grid, share, to_levels
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters

_LATTICE = 256  # points after which the noise repeats
_DRAWN = 2 * _LATTICE + 2  # gradients that the reference draws; it uses the first 256
_OCTAVES = (1, 2, 4, 8, 16)


def _draw(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    inner = generator_within(random)
    return {
        "gradients": inner.randint(0, 2**31, (_DRAWN, 2))[:_LATTICE] % (2 * _LATTICE),
        "swaps": inner.randint(0, 2**31, _LATTICE) % _LATTICE,
    }


def _shuffled(swaps: NDArray[np.integer]) -> NDArray[np.int64]:
    order = np.arange(_LATTICE)
    for last, other in zip(range(_LATTICE - 1, -1, -1), swaps, strict=True):
        order[[last, other]] = order[[other, last]]
    return order


def _unit(gradients: NDArray[np.integer]) -> Plane:
    """Vectors (256, 2) of length 1. One of length 0, once in 1000 images, stays: the reference divides 0 by 0."""
    vectors = (gradients - _LATTICE) / _LATTICE
    lengths = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return vectors / np.where(lengths == 0, 1, lengths)


def _smooth(t: Plane) -> Plane:
    return t**2 * (3 - 2 * t)


def _noise(order: NDArray[np.int64], vectors: Plane, rows: Plane, columns: Plane) -> Plane:
    """Gradient noise at `rows` (H, 1) and `columns` (1, W), in points of the lattice."""
    row, column = np.floor(rows).astype(int), np.floor(columns).astype(int)
    y, x = rows - row, columns - column
    points = order[(order[np.arange(row.max() + 2) % _LATTICE, None] + np.arange(column.max() + 2)) % _LATTICE]
    down, across = vectors[points, 0], vectors[points, 1]

    def corner(below: int, right: int) -> Plane:
        here = row + below, column + right
        return (y - below) * down[here] + (x - right) * across[here]

    left, right = (corner(0, side) + _smooth(y) * (corner(1, side) - corner(0, side)) for side in (0, 1))
    return 1.5 * (left + _smooth(x) * (right - left))


def _apply(image: Image, draws: Draws, strength: Parameters) -> Image:
    height, width = image.shape[:2]
    order, vectors = _shuffled(draws["swaps"]), _unit(draws["gradients"])
    cell = 32 * min(height, width) / 224  # pixels between points of the lowest octave
    rows, columns = (places * (1 / cell) for places in grid(height, width))
    turbulence = sum(np.abs(_noise(order, vectors, f * rows, f * columns)) / f for f in _OCTAVES)
    alpha = share(strength, 0.5)
    clouds = np.clip(0.5 * turbulence + 0.5, 0, 1)
    return to_levels(np.float32(1 - alpha) * image.astype(np.float32) + 255 * alpha * clouds[..., None])


PERLIN = Corruption("perlin_noise", _draw, _apply)
