"""Nineteen images of one gray level each, which tells which one it is, and what loaders give of them."""

import numpy as np
import torch

from apr_dali.data.arrays import ArraySet

COUNT, BATCH = 19, 4
BATCHES = 5


def small_set() -> ArraySet:
    images = np.empty((COUNT, 12, 12, 3), np.uint8)
    images[:] = (np.arange(COUNT) * 13)[:, None, None, None]
    return ArraySet(images, np.arange(COUNT) % 2, ("class0", "class1"))


def numbers(images: torch.Tensor, loader) -> list[int]:
    recipe = loader._graph.recipe
    levels = (images[:, 0, 6, 6] * recipe.std[0] + recipe.mean[0]) * 255
    return (levels / 13).round().int().tolist()


def orders(loader, batches) -> list[list[int]]:
    found = []
    for images, targets in batches:
        found.append(numbers(images, loader))
        assert [number % 2 for number in found[-1]] == targets.tolist()
    return found


def same(found, expected) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    )
