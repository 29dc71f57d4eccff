"""Small sets of images for loaders: noise in memory, and any images as files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from apr_dali.data.arrays import ArraySet


def noise(count: int, height: int, width: int, levels: int = 256) -> np.ndarray:
    """uint8 (count, height, width, 3), the same every time, below so many gray levels."""
    return np.random.default_rng(0).integers(0, levels, (count, height, width, 3), np.uint8)


def noise_set(count: int, side: int, levels: int = 256) -> ArraySet:
    """So many squares of noise in three classes."""
    return ArraySet(noise(count, side, side, levels), np.arange(count) % 3, ("a", "b", "c"))


def write_classes(root: Path, images: Iterable[np.ndarray], suffix: str = ".png") -> Path:
    """Class folders of these images; the class says whether the number, which is the file's name, is odd."""
    for index, image in enumerate(images):
        (root / f"class{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(image).save(root / f"class{index % 2}" / f"{index:02d}{suffix}")
    return root
