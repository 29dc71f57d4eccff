"""Brightness, contrast and saturation: nothing is drawn."""

from __future__ import annotations

import numpy as np

from apr_dali.corruptions.record import Corruption, Draws, Image, Parameters, draw_nothing, to_bytes

_SATURATION, _VALUE = 1, 2


def _in_hsv(image: Image, channel: int, factor: float, added: float) -> Image:
    """Change one channel of hue, saturation and value, linearly, and clip it to 0..1."""
    from skimage.color import hsv2rgb, rgb2hsv

    hsv = rgb2hsv(image / 255.0)
    hsv[..., channel] = np.clip(hsv[..., channel] * factor + added, 0, 1)
    return to_bytes(hsv2rgb(hsv))


def _brightness(image: Image, draws: Draws, added: Parameters) -> Image:  # noqa: ARG001
    return _in_hsv(image, _VALUE, 1.0, added)


def _saturate(image: Image, draws: Draws, parameters: Parameters) -> Image:  # noqa: ARG001
    return _in_hsv(image, _SATURATION, *parameters)


def _contrast(image: Image, draws: Draws, kept: Parameters) -> Image:  # noqa: ARG001
    light = image / 255.0
    # Over both axes at once, NumPy adds one pixel after another: another order gives other last bits.
    means = light.mean(axis=(0, 1), keepdims=True)
    return to_bytes((light - means) * kept + means)


BRIGHTNESS = Corruption("brightness", draw_nothing, _brightness, native=True)
CONTRAST = Corruption("contrast", draw_nothing, _contrast, native=True)
SATURATE = Corruption("saturate", draw_nothing, _saturate, native=True)
