"""Progressive resolution: the size of training images by the epoch, as ffcv's ImageNet trainer has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from apr_dali.errors import InputError

STEP = 32
"""Pixels of which each size is a multiple: what most networks divide a side by."""
_POINT = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True)
class Sizes:
    """Sizes in pixels at some epochs, counted from 0 and in their order.

    Before the first epoch and after the last the size stays; in between it is on the straight line between two points,
    rounded to a multiple of STEP.
    """

    sizes: tuple[int, ...]
    epochs: tuple[int, ...]

    @classmethod
    def parse(cls, points: Sequence[str], name: str) -> Sizes:
        """Of points "SIZE:EPOCH"; InputError, that calls them `name`, for any that cannot be."""
        found = [_POINT.fullmatch(point) for point in points]
        if len(points) < 2 or not all(found):
            raise InputError(f"{name} must be two or more of SIZE:EPOCH, such as 160:65 192:76, got {' '.join(points)}")
        sizes, epochs = (tuple(int(point[n]) for point in found if point) for n in (1, 2))
        if wrong := [size for size in sizes if size % STEP or not size]:
            raise InputError(f"{name} must have sizes that are multiples of {STEP}, got {wrong[0]}")
        if any(later <= earlier for earlier, later in pairwise(epochs)):
            raise InputError(f"{name} must have its epochs in their order, got {' '.join(map(str, epochs))}")
        return cls(sizes, epochs)

    def at(self, epoch: int) -> int:
        """The size in pixels of the training images of an epoch, from 0."""
        if epoch in self.epochs or not self.epochs[0] < epoch < self.epochs[-1]:
            # Not rounded: a single size may be any.
            return int(np.interp(epoch, self.epochs, self.sizes))
        return int(np.rint(np.interp(epoch, self.epochs, self.sizes) / STEP)) * STEP
