"""Loaders in processes of their own, which import what they run by its name."""

from pathlib import Path

import torch

from apr_dali import ImageNetLoader

SETTINGS = {"image_size": 32, "threads": 2, "seed": 1}


def make(folder: Path, **options) -> ImageNetLoader:
    return ImageNetLoader(folder, 4, "apr-sp", **SETTINGS | options)


def sums(loader) -> list[float]:
    return [float(images.sum()) for images, _ in loader]


def sums_in_child(folder: Path, results) -> None:
    torch.set_num_threads(1)
    with make(folder) as loader:
        results.put(sums(loader))
