"""How far a number would be another on other images: percentile intervals of a seeded bootstrap over images.

Of N images, N are drawn with replacement, many times, and the number is taken of each draw (Efron, 1979). A draw is
kept as how often it has each image, so that numbers are taken of many draws at once, in parts of bounded size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali.errors import InputError, check_whole

SEED = 0
RESAMPLES = 1000
LEVEL = 0.95
"""Of an interval: so many of the draws give a number within it."""
_PART = 2**16  # numbers at once: what a core's cache holds

Interval = list[float]
"""The lower and the upper end."""
Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
"""(B, N): how often each of B draws has each of N images."""
Statistic = Callable[[Counts], Floats]
"""Numbers (B, K) of B draws."""


def share_interval(share: float, images: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """The interval of a share of `images`, 0..1: which images they are makes no difference, a draw is binomial."""
    _check(images, resamples)
    if not 0 <= share <= 1:
        raise InputError(f"expected a share in 0..1, got {share}")
    return ends_of(np.random.default_rng(seed).binomial(images, share, resamples) / images)


def error_interval(ends: Interval) -> Interval:
    """The interval of an error, of that of the share that is right."""
    low, high = ends
    return [1 - high, 1 - low]


def mean_intervals(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> list[Interval]:
    """The intervals of means over the same images, drawn together.

    Args:
        values: floating (N, K): of N images K values each.
        resamples: how many draws. seed: of their generator.

    Returns:
        K intervals.
    """
    return [ends_of(column) for column in mean_draws(values, resamples=resamples, seed=seed).T]


def mean_draws(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int | Sequence[int] = SEED) -> Floats:
    """The means (resamples, K) of each draw of values, floating (N, K)."""
    columns = np.asarray(values, np.float64)
    if columns.ndim != 2:
        raise InputError(f"expected values (images, means), got {columns.shape}")
    return draws_of(len(columns), lambda counts: counts @ columns / len(columns), resamples=resamples, seed=seed)


def draws_of(
    images: int, statistic: Statistic, *, resamples: int = RESAMPLES, seed: int | Sequence[int] = SEED
) -> Floats:
    """The numbers (resamples, K) of `statistic`, of all draws of so many images."""
    parts = counted(images, together_of(images), resamples=resamples, seed=seed)
    return np.concatenate([statistic(counts) for counts in parts])


def together_of(numbers: int) -> int:
    """How many draws should be held at once that take so many numbers each."""
    return max(1, _PART // max(numbers, 1))


def counted(
    images: int, together: int, *, resamples: int = RESAMPLES, seed: int | Sequence[int] = SEED
) -> Iterator[Counts]:
    """All draws of so many images, `together` at a time; those of one seed are the same whatever they are drawn for."""
    draws = drawn(images, resamples=resamples, seed=seed)
    while part := list(islice(draws, together)):
        yield np.stack([np.bincount(numbers, minlength=images) for numbers in part])


def drawn(images: int, *, resamples: int = RESAMPLES, seed: int | Sequence[int] = SEED) -> Iterator[NDArray[np.int64]]:
    """The numbers of the images in each draw, int64 (images,)."""
    _check(images, resamples)
    rng = np.random.default_rng(seed)
    return (rng.integers(images, size=images) for _ in range(resamples))


def ends_of(found: Floats) -> Interval:
    """The interval of the numbers of all draws, (R,)."""
    low, high = np.quantile(found, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return [float(low), float(high)]


def _check(images: int, resamples: int) -> None:
    check_whole("images", images, 1)
    check_whole("resamples", resamples, 1)
