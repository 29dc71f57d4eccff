"""Frost: a photograph of frosted glass laid over the image.

The five photographs are the reference's. They are not part of this package: they come with the package
imagecorruptions-imaug (Apache License 2.0), which has them from hendrycks/robustness (Apache License 2.0). There is a
sixth one, which the reference never draws.
"""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from apr_dali.corruptions.record import Constants, Corruption, Draws, Image, Parameters
from apr_dali.corruptions.resize import bilinear
from apr_dali.errors import InputError, install_command

PHOTOGRAPHS = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
_KEPT = 16  # results for images of different sizes: each may take megabytes


@cache
def photograph(index: int, scale: float) -> Image:
    """One of PHOTOGRAPHS, scaled: uint8 (H, W, 3), read-only."""
    package = find_spec("imagecorruptions")
    if package is None or not package.submodule_search_locations:
        raise InputError(f"frost takes its photographs from imagecorruptions-imaug: {install_command('eval')}")
    path = Path(package.submodule_search_locations[0], "frost", PHOTOGRAPHS[index])
    if not path.is_file():
        raise InputError(f"frost needs the photograph {path}: install imagecorruptions-imaug 1.1.5 again")
    pixels = np.array(PillowImage.open(path).convert("RGB"))
    scaled = pixels if scale == 1 else bilinear(pixels, scale)
    scaled.flags.writeable = False
    return scaled


@lru_cache(_KEPT)
def covering(index: int, scale: float, height: int, width: int) -> Image:
    """A photograph that is larger than the image along both sides, so that there is more than one place to crop.

    That is how it comes, scaled, for all sizes that the reference knows. Where that is too small, this enlarges it by
    the least factor that is enough, the same along both sides (Pillow's bicubic filter): the reference has no rule.
    """
    pixels = photograph(index, scale)
    factor = max((height + 1) / pixels.shape[0], (width + 1) / pixels.shape[1])
    if factor <= 1:
        return pixels
    size = [max(round(side * factor), least + 1) for side, least in zip(pixels.shape, (height, width), strict=False)]
    return np.asarray(PillowImage.fromarray(pixels).resize((size[1], size[0]), PillowImage.Resampling.BICUBIC))


def _draw(random: Any, height: int, width: int, parameters: Parameters) -> dict[str, NDArray[Any]]:
    index = random.randint(0, len(PHOTOGRAPHS))
    pixels = covering(int(index), parameters[2], height, width)
    return {
        "photograph": np.asarray(index),
        "top": np.asarray(random.randint(0, pixels.shape[0] - height)),
        "left": np.asarray(random.randint(0, pixels.shape[1] - width)),
    }


def _apply(image: Image, draws: Draws, parameters: Parameters) -> Image:
    of_image, of_frost, scale = parameters
    height, width = image.shape[:2]
    top, left = int(draws["top"]), int(draws["left"])
    frost = covering(int(draws["photograph"]), scale, height, width)[top : top + height, left : left + width]
    return np.clip(of_image * image + of_frost * frost, 0, 255).astype(np.uint8)


@lru_cache(_KEPT)
def _packed(scale: float, height: int, width: int) -> list[NDArray[np.float64]]:
    """Size and bytes of each photograph, eight bytes in the place of one number."""
    out = []
    for index in range(len(PHOTOGRAPHS)):
        pixels = covering(index, scale, height, width)
        padded = np.zeros(-(-pixels.size // 8) * 8, np.uint8)
        padded[: pixels.size] = pixels.reshape(-1)
        out += [np.array(pixels.shape[:2], np.float64), padded.view(np.float64)]
    return out


def _constants(parameters: Parameters, height: int, width: int) -> Constants:
    of_image, of_frost, scale = parameters
    return [np.array([of_image, of_frost], np.float64), *_packed(scale, height, width)]


FROST = Corruption("frost", _draw, _apply, _constants, native=True)
