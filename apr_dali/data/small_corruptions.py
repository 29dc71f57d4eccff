"""Corruptions of small images that no training here uses, each at three strengths; every draw is seeded."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from apr_dali.corruptions import fog
from apr_dali.corruptions.parameters import TABLES

Images = NDArray[np.uint8]


def _noise(images: Images, deviation: float) -> Images:
    drawn = np.random.default_rng(0).normal(0, deviation, images.shape)
    return np.clip(np.rint(images + drawn), 0, 255).astype(np.uint8)


def _impulses(images: Images, share: float) -> Images:
    rng = np.random.default_rng(0)
    hit = rng.random((*images.shape[:3], 1)) < share
    return np.where(hit, rng.integers(0, 2, (*images.shape[:3], 1)) * 255, images).astype(np.uint8)


def _brighter(images: Images, levels: float) -> Images:
    return np.clip(images + levels, 0, 255).astype(np.uint8)


def _each(change: Callable[[Image.Image, float], Image.Image]) -> Callable[[Images, float], Images]:
    return lambda images, strength: np.stack(
        [np.asarray(change(Image.fromarray(image), strength).convert("RGB")) for image in images]
    )


def _pixelated(image: Image.Image, side: float) -> Image.Image:
    small = image.resize((int(side), int(side)), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.NEAREST)


def _jpeg(image: Image.Image, quality: float) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(quality))
    return Image.open(buffer)


def _fog(images: Images, severity: float) -> Images:
    """ImageNet-C's fog, or CIFAR-10-C's up to 64 pixels: another cloud before each image."""
    height, width = images.shape[1:3]
    thickness, decay = TABLES["cifar" if max(height, width) <= 64 else "imagenet"]["fog"][int(severity) - 1]
    random = np.random.RandomState(0)
    points = fog.side(height, width) ** 2 - 1
    clouds = np.stack([fog.cloud(random.random(points), decay)[:height, :width, None] for _ in images])
    light = images / 255
    brightest = light.max((1, 2, 3), keepdims=True)
    foggy = (light + thickness * clouds) * brightest / (brightest + thickness)
    return np.rint(np.clip(foggy, 0, 1) * 255).astype(np.uint8)


Corruption = tuple[Callable[[Images, float], Images], tuple[float, float, float]]

CORRUPTIONS: dict[str, Corruption] = {
    "gaussian noise": (_noise, (30, 60, 90)),
    "impulse noise": (_impulses, (0.05, 0.1, 0.2)),
    "blur": (_each(lambda image, radius: image.filter(ImageFilter.GaussianBlur(radius))), (1.5, 2.5, 3.5)),
    "contrast": (_each(lambda image, factor: ImageEnhance.Contrast(image).enhance(factor)), (0.5, 0.3, 0.15)),
    "brightness": (_brighter, (50, 100, 150)),
    "pixelation": (_each(_pixelated), (12, 9, 7)),
    "jpeg": (_each(_jpeg), (15, 8, 4)),
}
"""Name → (function of images uint8 (N, H, W, 3) and strength, three strengths)."""
SHOWN: dict[str, Corruption] = {**CORRUPTIONS, "fog": (_fog, (1, 3, 5))}
"""These and the fog of the paper's Fig. 8, by severity; it is in no mean that was measured over CORRUPTIONS."""
