"""Whether an augmentation's form in torch is its definition."""

from __future__ import annotations

import numpy as np
import torch
from helpers import tolerances
from helpers.augmentations import drawn

from apr_dali.augmentations import Augmentation

DATASETS = ("cifar10", "imagenet")


def assert_close(name: str, got: torch.Tensor, expected: np.ndarray) -> None:
    """Within the tolerances of a dtype."""
    apart = np.abs(got.double().numpy() - expected)
    if name == "prime" and got.dtype == torch.float32:
        assert apart.mean() < tolerances.PRIME_FLOAT32_MEAN
    elif got.dtype == torch.float32:
        assert apart.max() < tolerances.AUGMENTATION_FLOAT32
    else:
        assert apart.max() < (tolerances.PRIME_FLOAT64 if name == "prime" else tolerances.AUGMENTATION_FLOAT64)


def assert_levels_close(name: str, apart: np.ndarray) -> None:
    """Of gray levels apart, of whichever backend."""
    limit = tolerances.HYBRID_LEVELS if name == "hybrid++-s" else tolerances.LEVELS
    assert (apart > limit).mean() <= (tolerances.PRIME_LEVELS_SHARE if name == "prime" else 0)


def assert_forms_agree(record: Augmentation, images: np.ndarray, seeds: int = 3) -> None:
    """On floating images (N, C, H, W), in float64 and float32, with draws of several seeds."""
    for seed in range(seeds):
        draws = drawn(record, len(images), images.shape[2:], seed, images.shape[1], dataset=DATASETS[seed % 2])
        for dtype in (np.float64, np.float32):
            given = images.astype(dtype)
            got = record.torch_form(torch.from_numpy(given), draws)
            assert got.numpy().dtype == dtype
            assert_close(record.name, got, record.define(given.astype(np.float64), draws))
