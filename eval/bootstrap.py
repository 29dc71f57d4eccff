"""How far a number would be another on other images: percentile intervals of a seeded bootstrap over images.

Of N images, N are drawn with replacement, many times, and the number is taken of each draw (Efron, 1979). A draw is
kept as how often it has each image, so that sums over images are products of matrices, made in parts of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali.errors import InputError, check_whole
from apr_dali.eval.calibration import BINS, bin_of

SEED = 0
RESAMPLES = 1000
LEVEL = 0.95
"""Of an interval: so many of the draws give a number within it."""
_PART = 2**22  # numbers in memory at once

Interval = list[float]
"""The lower and the upper end."""
Floats = NDArray[np.float64]


def share_interval(share: float, images: int, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """The interval of a share of `images`, 0..1: which images they are makes no difference, a draw is binomial."""
    _check(images, resamples)
    if not 0 <= share <= 1:
        raise InputError(f"expected a share in 0..1, got {share}")
    return _ends(np.random.default_rng(seed).binomial(images, share, resamples) / images)


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
    columns = np.asarray(values, np.float64)
    if columns.ndim != 2:
        raise InputError(f"expected values (images, means), got {columns.shape}")
    return [_ends(column) for column in _means(columns, resamples, seed).T]


def ece_interval(
    confidence: ArrayLike, right: ArrayLike, bins: int = BINS, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Interval:
    """The interval of the expected calibration error of `apr_dali.eval.calibration.ece`.

    Args:
        confidence: floating (N,), 0..1. right: bool (N,), whether each image was.
        bins: of equal width over 0..1.
    """
    sure, correct = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    _check(len(sure), resamples)
    # A bin's share of the error is what its confidences and its rights sum to less each other.
    gaps, place = sure - correct, bin_of(sure, bins)
    found = [
        np.abs(np.bincount(place[drawn], gaps[drawn], bins)).sum() / len(sure)
        for drawn in _drawn(np.random.default_rng(seed), len(sure), resamples)
    ]
    return _ends(np.array(found))


def auroc_interval(inside: ArrayLike, outside: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Interval:
    """The interval of the area under the ROC curve; both sets are drawn anew. Ties count half.

    Args:
        inside: scores (N,) of the images that should have the greater ones. outside: scores (M,) of the others.
    """
    return _ends(auroc_draws(inside, outside, resamples=resamples, seed=seed))


def auroc_intervals(
    inside: ArrayLike,
    outside: Mapping[str, ArrayLike],
    means: Mapping[str, Sequence[str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """The intervals of `auroc_interval` of each set by its name, and of means over some of them.

    The images inside are drawn once for all sets, those of each set for themselves.

    Args:
        inside: floating (N,). outside: by the name of a set, floating (M,). means: by name, the sets that each is over.
    """
    draws = {
        name: auroc_draws(inside, scores, resamples=resamples, seed=seed, other=number)
        for number, (name, scores) in enumerate(outside.items())
    }
    joined = {mean: np.mean([draws[name] for name in names], 0) for mean, names in means.items()}
    return {name: _ends(found) for name, found in {**draws, **joined}.items()}


def auroc_draws(
    inside: ArrayLike, outside: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED, other: int = 0
) -> Floats:
    """The area under the ROC curve, 0..1, of each draw, float64 (R,), of scores inside (N,) and outside (M,).

    other: of the generator of the images outside.
    """
    first, second = np.asarray(inside), np.asarray(outside)
    _check(len(first), resamples)
    _check(len(second), resamples)
    values, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    of_first, of_second = place[: len(first)], place[len(first) :]
    found = []
    for one, drawn in zip(
        _drawn(np.random.default_rng(seed), len(first), resamples),
        _drawn(np.random.default_rng([seed, other, 1]), len(second), resamples),
        strict=True,
    ):
        greater = np.bincount(of_first[one], minlength=len(values)).astype(np.float64)
        less = np.bincount(of_second[drawn], minlength=len(values))
        # No product of matrices: its threads would wait for each other on so few numbers.
        found.append((greater * (np.cumsum(less) - less / 2)).sum() / (len(first) * len(second)))
    return np.array(found)


def _means(columns: Floats, resamples: int, seed: int) -> Floats:
    """The means (resamples, K) of each draw."""
    images = len(columns)
    _check(images, resamples)
    draws = _drawn(np.random.default_rng(seed), images, resamples)
    together = max(1, _PART // images)
    found = []
    for start in range(0, resamples, together):
        counts = [np.bincount(next(draws), minlength=images) for _ in range(min(together, resamples - start))]
        found.append(np.array(counts, np.float64) @ columns / images)
    return np.concatenate(found)


def _drawn(rng: np.random.Generator, images: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """The numbers of the images in each draw, int64 (images,)."""
    for _ in range(resamples):
        yield rng.integers(images, size=images)


def _ends(found: Floats) -> Interval:
    low, high = np.quantile(found, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return [float(low), float(high)]


def _check(images: int, resamples: int) -> None:
    check_whole("images", images, 1)
    check_whole("resamples", resamples, 1)
