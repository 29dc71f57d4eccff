"""Images as CIFAR's networks take them, and back."""

from __future__ import annotations

import numpy as np
import torch

from apr_dali import recipes

MEAN, STD = (np.reshape(v, (3, 1, 1)) for v in (recipes.CIFAR.mean, recipes.CIFAR.std))


def levels(images: torch.Tensor) -> np.ndarray:
    """Normalized (N, 3, H, W) as gray levels 0..255."""
    return (images.double().numpy() * STD + MEAN) * 255


def normalized(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) as the network sees it, (N, 3, H, W)."""
    return (np.moveaxis(images, -1, 1) / 255 - MEAN) / STD
