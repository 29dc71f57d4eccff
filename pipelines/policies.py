"""Augmentation policies in the training graphs, on the uint8 images that APR gets: DALI's own, and AugMix of its parts.

A graph with one of them needs DALI's conditionals, see `enabled`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali import math as dali_math
from nvidia.dali.auto_aug import augmentations, auto_augment, rand_augment, trivial_augment
from nvidia.dali.data_node import DataNode

_OPERATIONS = 2
"""RandAugment's, in torchvision and in timm's recipes."""
_CHAINS = 3
"""AugMix's, each of one to three operations."""
_LEVELS = 31
"""RandAugment's magnitudes, torchvision's."""
_AUGMIX_LEVELS = 10
"""Levels that are drawn of an operation of AugMix; each one takes DALI time when the graph is made."""


def enabled(policy: str) -> bool:
    """Whether a graph with this policy is to be made with enable_conditionals."""
    return policy != "none"


def apply(images: DataNode, policy: str, magnitude: int, size: tuple[int, int]) -> DataNode:
    """uint8 HWC images of `size`, (H, W), as the policy changes them: one of `apr_dali.recipes.POLICIES`.

    magnitude: as `apr_dali.recipes.policy_magnitude` gives it.
    """
    if policy == "autoaugment":
        return auto_augment.auto_augment_image_net(images, shape=size)
    if policy == "trivialaugment":
        return trivial_augment.trivial_augment_wide(images)
    if policy == "randaugment":
        return rand_augment.rand_augment(images, n=_OPERATIONS, m=magnitude, num_magnitude_bins=_LEVELS, shape=size)
    if policy == "augmix":
        return _augmix(images, magnitude, size)
    return images


def _augmix(images: DataNode, severity: int, size: tuple[int, int]) -> DataNode:
    """AugMix, Hendrycks et al. 2020: the image and three chains of operations on it, added up by random weights.

    Weights as published: the chains' from Dirichlet(1, 1, 1), all of theirs against the image's from Beta(1, 1).
    """
    # Exponentials, divided by their sum, are of Dirichlet(1, ..., 1).
    shares = -dali_math.log(fn.random.uniform(range=(1e-6, 1.0), shape=(_CHAINS,)))
    shares = _beside(images, shares / fn.reductions.sum(shares))
    depth = fn.random.uniform(values=[1, 2, 3], shape=(_CHAINS,), dtype=types.INT32)
    mixture = shares[0] * _chain(images, depth[0], severity, size)
    for n in range(1, _CHAINS):
        mixture = mixture + shares[n] * _chain(images, depth[n], severity, size)
    weight = _beside(images, fn.random.uniform(range=(0.0, 1.0)))
    return fn.cast((1 - weight) * images + weight * mixture, dtype=types.UINT8)


def _beside(images: DataNode, drawn: DataNode) -> DataNode:
    """What is drawn, on the device of the images that it is multiplied with."""
    return drawn.gpu() if images.device == "gpu" else drawn


def _chain(images: DataNode, depth: DataNode, severity: int, size: tuple[int, int]) -> DataNode:
    """`depth` operations, one to three, one after the other."""
    changed = _operation(images, severity, size)
    if depth > 1:
        changed = _operation(changed, severity, size)
    if depth > 2:
        changed = _operation(changed, severity, size)
    return changed


def _operation(images: DataNode, severity: int, size: tuple[int, int]) -> DataNode:
    suite = augmix_suite(severity)
    return trivial_augment.apply_trivial_augment(suite, images, _AUGMIX_LEVELS, fill_value=0, shape=size)


def augmix_suite(severity: int) -> list[Any]:
    """The operations of AugMix at levels from 0.1 to `severity` of 10, but for those that are like test corruptions."""
    low, high = 0.01, severity / 10
    turned, sheared, moved = ((low * most, high * most) for most in (30, 0.3, 1 / 3))
    return [
        augmentations.auto_contrast,
        augmentations.equalize,
        augmentations.posterize.augmentation((4 - 4 * low, 4 - 4 * high), False, _kept_bits),
        augmentations.rotate.augmentation(turned, True),
        augmentations.solarize.augmentation((256 - 256 * low, 256 - 256 * high)),
        augmentations.shear_x.augmentation(sheared, True),
        augmentations.shear_y.augmentation(sheared, True),
        augmentations.translate_x.augmentation(moved, True),
        augmentations.translate_y.augmentation(moved, True),
    ]


def _kept_bits(magnitude: float) -> NDArray[np.uint8]:
    """The mask of posterize that keeps so many bits, a broken bit among them: 4 - int(level) of the released code."""
    mask: NDArray[np.uint8] = augmentations.poster_mask_uint8(math.ceil(magnitude))
    return mask


@contextmanager
def without_dalis_own_warnings() -> Iterator[None]:
    """DALI's policies call operators by names that DALI itself has given up."""
    # DALI sets a filter of its own around each of them: they can only be caught.
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        if not str(warning.message).startswith("WARNING: `nvidia.dali.fn.experimental"):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
