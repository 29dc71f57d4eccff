"""Noise: gaussian, shot, impulse and speckle."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, to_bytes


def _draw_normal(random: Any, height: int, width: int, scale: Parameters) -> dict[str, NDArray[Any]]:
    return {"noise": random.normal(loc=0.0, scale=scale, size=(height, width, 3))}


def _add(image: Image, draws: Draws, scale: Parameters) -> Image:  # noqa: ARG001
    return to_bytes(image / 255.0 + draws["noise"])


GAUSSIAN = Corruption("gaussian_noise", _draw_normal, _add, native=True)
