"""Loaders in processes of their own, which import what they run by its name."""

from pathlib import Path

import torch

from apr_dali import ImageNetLoader
from apr_dali.recipes import AprRecipe

SETTINGS = {"image_size": 32, "threads": 2, "seed": 1}


def gpu_graph(aug: str, recipe: AprRecipe) -> dict:
    """The settings that both loaders' graphs have, for a GPU, which need not be there."""
    rest = {"dtype": "float16", "backend": "auto", "threads": 2, "shard": (0, 1)}
    return {"device": "gpu", "aug": aug, "recipe": recipe, **rest}


def make(folder: Path, **options) -> ImageNetLoader:
    return ImageNetLoader(folder, 4, "apr-sp", **SETTINGS | options)


def sums(loader) -> list[float]:
    return [float(images.sum()) for images, _ in loader]


def sums_in_child(folder: Path, results) -> None:
    torch.set_num_threads(1)
    with make(folder) as loader:
        results.put(sums(loader))
