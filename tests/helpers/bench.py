"""What the tests of the benchmark share: a measurement, and images as networks take them."""

from __future__ import annotations

import numpy as np
import torch

from apr_dali.recipes import CIFAR


def measurement(rate: float, cpu: float = 1.0, **more: float) -> dict[str, float]:
    return {"images_per_s": rate, "cpu_ms": cpu, "peak_mib": 100.0, **more}


def normalized(images: np.ndarray, recipe=CIFAR) -> torch.Tensor:
    """uint8 (N, H, W, 3) as float32 (N, 3, H, W), normalized."""
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (recipe.mean, recipe.std))
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
