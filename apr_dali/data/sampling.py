"""Which images are taken of a set: an epoch's where some are to come more often than others, and a few evenly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError, check_choice
from apr_dali.recipes import SAMPLERS

Sampler = str | Mapping[str, float] | Sequence[float] | NDArray[np.float64]
"""One of SAMPLERS, or weights: by the name of the class, that of each of its images, or one per image."""

_NAMED = 5


def weights_of(
    sampler: Sampler, labels: NDArray[np.int64] | None, classes: Sequence[str], count: int | None = None
) -> NDArray[np.float64] | None:
    """The weight of each image (N,); None where each is to come once per epoch.

    labels: (N,), indices into `classes`; None where they are known when an image is read, of which there are `count`.

    Raises InputError for weights that are not of these images, or by class where labels are not known.
    """
    if isinstance(sampler, str):
        check_choice("sampler", sampler, SAMPLERS)
        if sampler == "shuffle":
            return None
    if isinstance(sampler, (str, Mapping)):
        if labels is None:
            raise InputError("sampler by class needs image files: a tar's labels are known when its samples are read")
        if isinstance(sampler, str):
            return 1 / np.bincount(labels, minlength=len(classes))[labels]
        weights = _of_classes(sampler, classes)[labels]
    else:
        weights = _numbers(sampler)
        images = count if labels is None else len(labels)
        if weights.shape != (images,):
            raise InputError(f"sampler must hold a weight for each of the {images} images, got {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise InputError("sampler's weights must be finite, not negative, and not all 0")
    return weights


def by_source(counts: Sequence[int], weights: Sequence[float]) -> NDArray[np.float64]:
    """The weight of each image (N,) of several sets, one after the other, that are to have these shares of an epoch.

    counts: images of each set. weights: of each, in any unit; within a set every image has the same chance.
    """
    if len(counts) != len(weights):
        raise InputError(f"expected a weight for each of {len(counts)} sources, got {len(weights)}")
    return np.concatenate([np.full(count, weight / count) for count, weight in zip(counts, weights, strict=True)])


def draw(weights: NDArray[np.float64], seed: int, epoch: int) -> NDArray[np.int64]:
    """As many images as there are, int64 (N,), drawn with these weights and replaced: a pure function.

    weights: float64 (N,), from 0 on.
    """
    sums = np.cumsum(weights)
    places = np.random.default_rng([seed, epoch]).random(len(sums)) * sums[-1]
    # A place may be rounded up to the end.
    return np.minimum(np.searchsorted(sums, places, side="right"), np.flatnonzero(weights)[-1])


def evenly(count: int, limit: int) -> NDArray[np.int64]:
    """The numbers of at most `limit` of `count` things, as far apart as can be: sets are sorted by class."""
    taken = min(count, limit)
    return np.arange(taken) * count // max(taken, 1)


def _of_classes(weights: Mapping[str, float], classes: Sequence[str]) -> NDArray[np.float64]:
    for fault, names in (("lacks", set(classes) - weights.keys()), ("has unknown", weights.keys() - set(classes))):
        if names:
            more = " …" if len(names) > _NAMED else ""
            raise InputError(
                f"sampler must have a weight for each of the {len(classes)} classes: it {fault} "
                f"{', '.join(sorted(map(str, names))[:_NAMED])}{more}"
            )
    return _numbers([weights[name] for name in classes])


def _numbers(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"sampler's weights must be numbers: {error}") from error
