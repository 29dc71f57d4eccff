"""The recipes: what was published, as frozen dataclasses with their checks."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.errors import InputError
from apr_dali.spectral import AXES, OVERFLOWS

AUGMENTATIONS = ("none", "apr-p", "apr-s", "apr-sp")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def uses_single(aug: str) -> bool:
    """Whether the augmentation, one of AUGMENTATIONS, contains APR-S."""
    check_choice("aug", aug, AUGMENTATIONS)
    return aug in ("apr-s", "apr-sp")


def uses_pair(aug: str) -> bool:
    """Whether the augmentation contains APR-P, and with it a second view of each image."""
    check_choice("aug", aug, AUGMENTATIONS)
    return aug in ("apr-p", "apr-sp")


@dataclass(frozen=True)
class AprRecipe:
    """How APR is applied to a data set.

    pair_probability: share of batches whose images are mixed (APR-P's coin).
    pair_after_normalise: whether APR-P sees normalised images (ImageNet) or images in 0..1 (CIFAR).
    mean, std: of the normalisation, one a channel, for images in 0..1.
    overflow: what APR-S does with values outside 0..255, see `apr_dali.single`.
    axes: what is transformed together, see `apr_dali.recombine`.
    """

    pair_probability: float
    pair_after_normalise: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    overflow: str = "wrap"
    axes: str = "chw"

    def __post_init__(self) -> None:
        if not 0 <= self.pair_probability <= 1:
            raise InputError(f"pair_probability must be in 0..1, got {self.pair_probability}")
        if min(self.std) <= 0:
            raise InputError(f"std must be positive, got {self.std}")
        check_choice("overflow", self.overflow, OVERFLOWS)
        check_choice("axes", self.axes, AXES)


# The released code (iCGY96/APR): main_imagenet's and main's settings.
IMAGENET = AprRecipe(0.5, True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CIFAR = AprRecipe(0.6, False, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
