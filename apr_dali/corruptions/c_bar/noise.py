"""Noise with a spectrum: brownish_noise, and blue_noise_sample, which keeps the pixels where blue noise is high."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import ifft2

from apr_dali.corruptions.c_bar.common import Plane, generator_within, grid, share, to_levels
from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters


def _draw_phases(random: Any, height: int, width: int) -> Plane:
    """The phase of each frequency, float64 (H, W): a random left half, and the same turned by half a circle."""
    half = random.uniform(0, 2 * np.pi, (height, width // 2))
    if width % 2 == 0:
        return np.concatenate([half, half[::-1, ::-1]], axis=1)
    part = random.uniform(0, 2 * np.pi, (height // 2, 1))
    middle = np.concatenate([part, np.zeros((height % 2, 1)), part[::-1]])
    return np.concatenate([half, middle, half[::-1, ::-1]], axis=1)


def _frequencies(height: int, width: int) -> Plane:
    """How far each frequency is from the middle of the spectrum, float64 (H, W), in waves along the shorter side."""
    shorter = min(height, width)
    rows, columns = grid(height, width)
    return np.sqrt(((columns - width / 2) * (shorter / width)) ** 2 + ((rows - height / 2) * (shorter / height)) ** 2)


def _shaped(amplitudes: Plane, phases: Plane) -> Plane:
    """Noise of these amplitudes and phases, with the standard deviation 1."""
    height, width = phases.shape
    spectrum = amplitudes * (np.cos(phases) + np.sin(phases) * 1j)
    noise = ifft2(np.roll(spectrum, (height // 2, width // 2), axis=(0, 1))).real
    return noise / np.std(noise)


def _draw_one(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    return {"phases": _draw_phases(generator_within(random), height, width)}


def _draw_three(random: Any, height: int, width: int, strength: Parameters) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    inner = generator_within(random)
    return {color: _draw_phases(inner, height, width) for color in ("red", "green", "blue")}


def _brownish(image: Image, draws: Draws, strength: Parameters) -> Image:
    amplitudes = 1 / (_frequencies(*image.shape[:2]) ** 2 + 1)
    noise = np.stack([_shaped(amplitudes, phases) for phases in draws.values()], axis=-1)
    return to_levels(image + share(strength, 64) * noise)


def _blue_sample(image: Image, draws: Draws, strength: Parameters) -> Image:
    noise = _shaped(_frequencies(*image.shape[:2]), draws["phases"])
    return np.where((noise > share(strength, 3) - 2.5)[..., None], image, np.uint8(0))


BROWNISH = Corruption("brownish_noise", _draw_three, _brownish)
BLUE_SAMPLE = Corruption("blue_noise_sample", _draw_one, _blue_sample)
