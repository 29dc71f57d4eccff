"""Images and settings for the tests of the augmentations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from apr_dali.augmentations import Augmentation, Draws

SIZES = [(1, 1), (1, 7), (5, 1), (8, 8), (7, 9), (33, 20), (20, 33), (32, 32)]

# Those published are for 224 × 224: at the sizes of tests nothing would be left of an image.
SMALLER = {"gaussians": 3, "sigma": (1.0, 2.0)}
OF_GAUSSIANS = ("spectral-gains", "gaussian-mask")


def smaller(augmentation: Augmentation) -> dict[str, object]:
    """Settings in place of those that are for larger images."""
    return SMALLER if augmentation.name in OF_GAUSSIANS else {}


def always(name: str) -> dict[str, object]:
    """Settings by which no coin leaves a batch, or the phases of VIPAug-G, as they are."""
    coins = {"hybrid-p": ("p",), "hybrid++-p": ("p", "low_p"), "vipaug-g": ("p",)}
    return dict.fromkeys(coins.get(name, ()), 1.0)


def drawn(
    augmentation: Augmentation, batch: int, size: tuple[int, int], seed: int = 0, channels: int = 3, **settings: object
) -> Draws:
    """Draws at the published settings, but for those that are for larger images, with `settings` on top."""
    return augmentation.sample(batch, *size, seed, channels=channels, **{**smaller(augmentation), **settings})


def planes(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) as float64 (N, C, H, W) in 0..1."""
    return images.transpose(0, 3, 1, 2) / 255.0


def noisy_planes(crops: Callable[..., np.ndarray], batch: int, size: tuple[int, int]) -> np.ndarray:
    """Natural images with noise, float64 (N, 3, H, W) in 0..1. Levels may add up to a bin of 0, or of what rounding
    leaves of it, whose phase means nothing."""
    return 0.9 * planes(crops(batch, *size)) + 0.1 * np.random.default_rng(0).random((batch, 3, *size))
