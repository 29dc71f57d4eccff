"""Patterns of waves laid over the image: single_frequency_greyscale, cocentric_sine_waves, plasma_noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.c_bar.common import grid, share, to_levels
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters


def _draw_frequency(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    first = random.uniform(-np.pi, np.pi)
    return {
        "first": np.asarray(first),
        "second": np.asarray(random.uniform(-abs(first), abs(first))),
        "order": random.permutation(2),
        "phase": np.asarray(random.uniform(0, 2 * np.pi)),
    }


def _single_frequency(image: Image, draws: Draws, strength: Parameters) -> Image:
    rows, columns = grid(*image.shape[:2])
    across, down = np.stack([draws["first"], draws["second"]])[draws["order"]]  # radians a pixel
    wave = np.sin(columns * across + rows * down + draws["phase"])
    return to_levels(image + share(strength, 196) * wave[..., None])


def _draw_rings(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    tenth = min(height, width) / 10
    return {
        "center": random.uniform(0, np.array([width, height]), 2),
        "petals": np.asarray(random.uniform(0, 10)),
        "amplitude": np.asarray(random.uniform(0, tenth)),
        "ring": np.asarray(random.uniform(0, tenth)),
    }


def _cocentric(image: Image, draws: Draws, strength: Parameters) -> Image:
    rows, columns = grid(*image.shape[:2])
    x, y = columns - draws["center"][0], rows - draws["center"][1]
    distance = np.sqrt(x**2 + y**2) + np.sin(np.arctan2(x, y) * draws["petals"]) * draws["amplitude"]
    saw = (distance % draws["ring"]) / draws["ring"] - 1 / 2
    return to_levels(image + share(strength, 128) * saw[..., None])


def _draw_plasma(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    return {
        "time": np.asarray(random.uniform(0, 6 * np.pi)),
        "iterations": np.asarray(random.randint(4, 7)),
        "sharpness": np.asarray(random.uniform(0.5, 1)),
        "scale": np.asarray(random.uniform(0.075, 0.2) * min(height, width)),
    }


def _plasma(image: Image, draws: Draws, strength: Parameters) -> Image:
    rows, columns = grid(*image.shape[:2])
    time, scale, sharpness = (float(draws[key]) for key in ("time", "scale", "sharpness"))
    y, x = rows / scale, columns / scale
    frequency, delay, damping = 1.0, 1.0, 1.0
    for _ in range(int(draws["iterations"])):
        across = np.cos(y * frequency + time / delay) / damping
        down = np.sin(x * frequency + time / delay) / damping
        x, y = x + (across - down * 0.3), y + (down + across * 0.3)
        frequency, delay, damping = frequency * 1.93, delay * 1.15, damping * (2.25 - sharpness)
    colors = np.sin(np.stack([x - time, (x + y + np.sin(time)) * 0.5, y + time], axis=-1))
    intensity = share(strength, 64)
    return to_levels((1 - intensity / 255) * image + intensity * colors)


SINGLE_FREQUENCY = Corruption("single_frequency_greyscale", _draw_frequency, _single_frequency)
COCENTRIC = Corruption("cocentric_sine_waves", _draw_rings, _cocentric)
PLASMA = Corruption("plasma_noise", _draw_plasma, _plasma)
