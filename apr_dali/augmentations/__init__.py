"""Augmentations beside APR: what others made of amplitude and phase, and what they are compared with.

One file an augmentation: its draws, its definition of truth in NumPy float64, its form in torch, its published recipes.

    draws = find("afa").sample(128, 32, 32, seed=0, dataset="cifar10")
    images = apply("afa", images, draws)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape
from apr_dali.augmentations.registry import COMBINATIONS, NAMES, PARALLEL, find, register, stages

if TYPE_CHECKING:
    from apr_dali.augmentations.functional import apply as apply
    from apr_dali.augmentations.functional import sample_and_apply as sample_and_apply

__all__ = [
    "COMBINATIONS",
    "NAMES",
    "PARALLEL",
    "Augmentation",
    "Draws",
    "Recipe",
    "Shape",
    "find",
    "register",
    "stages",
]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name not in ("apply", "sample_and_apply"):
        raise AttributeError(f"module 'apr_dali.augmentations' has no attribute {name!r}")
    return getattr(importlib.import_module("apr_dali.augmentations.functional"), name)
