"""What scores of features know of the training images: statistics of rows that are read in parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.errors import InputError
from apr_dali.eval.rows import Rows

_HALVES = 2**16  # numbers of float16
_HALF_ULP = 2.0**-11  # the most by which it rounds, relative to the number


@dataclass(frozen=True)
class Fit:
    """The features of images that scores are fitted to, and their labels int64 (N,)."""

    rows: Rows
    labels: NDArray[np.int64]

    def parts(self) -> Iterator[Tensor]:
        """All features in parts, float32 (n, D) on the CPU."""
        for chunk in self.rows.chunks():
            yield torch.from_numpy(chunk)

    def mean(self) -> Tensor:
        """The mean features, float64 (D,)."""
        return _sum_of(part.double().sum(0) for part in self.parts()) / len(self.labels)

    def mean_square(self) -> Tensor:
        """The mean squares of the features, float64 (D,)."""
        return _sum_of(part.double().square().sum(0) for part in self.parts()) / len(self.labels)

    def percentile(self, share: float) -> float:
        """The value that this share, 0..1, of all values is below; between two neighbors it is interpolated."""
        counts, values = self._histogram
        total = int(counts.sum())
        place = share * (total - 1)
        below, above = (values[np.searchsorted(np.cumsum(counts), n, side="right")] for n in _neighbors(place))
        return float(below + (above - below) * (place - int(place)))

    def class_means(self, classes: int) -> Tensor:
        """The mean features of each class, float64 (classes, D). Raises InputError for a class without an image."""
        counts = np.bincount(self.labels, minlength=classes)
        if (empty := np.flatnonzero(counts == 0)).size:
            raise InputError(
                f"mahalanobis needs fitted images of each class, there are none of {len(empty)} of {classes} "
                f"(number {empty[0]} the first): give more with --fit-images"
            )
        sums = torch.zeros(classes, self.rows.width, dtype=torch.float64)
        for part, labels in self._labeled():
            sums.index_add_(0, labels, part.double())
        return sums / torch.from_numpy(counts)[:, None]

    def scatter(self, center: Tensor) -> Tensor:
        """The mean of (x − center)(x − center)ᵀ, float64 (D, D). center: float64 (D,), or (classes, D) by label."""
        total = torch.zeros(self.rows.width, self.rows.width, dtype=torch.float64)
        for part, labels in self._labeled():
            apart = part.double() - (center if center.ndim == 1 else center[labels])
            total += apart.T @ apart
        return total / len(self.labels)

    def _labeled(self) -> Iterator[tuple[Tensor, Tensor]]:
        start = 0
        for part in self.parts():
            yield part, torch.from_numpy(self.labels[start : start + len(part)])
            start += len(part)

    @cached_property
    def _histogram(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """How often each number of float16 is among the features, and these numbers, ascending."""
        counts = np.zeros(_HALVES, np.int64)
        for chunk in self.rows.chunks():
            counts += np.bincount(chunk.astype(np.float16).view(np.uint16).ravel(), minlength=_HALVES)
        values = np.arange(_HALVES, dtype=np.uint16).view(np.float16).astype(np.float64)
        order = np.argsort(values)  # nan are the last
        return counts[order], values[order]


@dataclass(frozen=True)
class Fits:
    """What scores are fitted to: training images, and validation images of the network's classes; None for none."""

    training: Fit | None = None
    validation: Fit | None = None


def _sum_of(parts: Iterator[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    return reduce(torch.add, parts)


def _neighbors(place: float) -> tuple[int, int]:
    return int(place), int(np.ceil(place))


def directions_of(fit: Fit, origin: Tensor) -> Tensor:
    """The principal directions of features about `origin`, float64 (D, D): columns, those of least variance first."""
    return torch.linalg.eigh(fit.scatter(origin)).eigenvectors


def precision_of(fit: Fit, means: Tensor) -> Tensor:
    """R, float64 (D, rank), with R·Rᵀ the pseudo-inverse of the covariance within classes.

    means: of each class, float64 (classes, D). Directions in which nothing varies but by the rounding to float16 count
    nothing.
    """
    values, directions = torch.linalg.eigh(fit.scatter(means))
    rounding = _HALF_ULP**2 * (fit.mean_square() @ directions.square())
    kept = values > rounding + values.amax() * len(values) * torch.finfo(values.dtype).eps
    if not bool(kept.any()):
        raise InputError("mahalanobis: the fitted features of each class are all the same: give more images")
    return directions[:, kept] / values[kept].sqrt()
