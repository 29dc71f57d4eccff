"""The recipes: what was published, as frozen dataclasses with their checks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.spectral import AXES, OVERFLOWS

AUGMENTATIONS = ("none", "apr-p", "apr-s", "apr-sp")
CIFAR_AUGMENTATIONS = (*AUGMENTATIONS, "cutout", "mixup", "cutmix", "autoaugment", "augmix")
"""With the methods that the paper compares APR with on CIFAR."""
POLICIES = ("none", "autoaugment", "randaugment", "trivialaugment", "augmix")
"""Augmentation policies that the loaders apply before APR."""
_MAGNITUDES = {"randaugment": (0, 30, 9), "augmix": (1, 10, 3)}
"""Least, greatest and usual magnitude: torchvision's, RandAugment's of 31 levels, AugMix's severity of 10."""
VIEWS = ("mixed", "both")
"""What training with APR-P sees of an image: the mixed view, or as published the clean one beside it."""


def check_views(views: str, repeat_unmixed: bool) -> None:
    """Raise InputError unless `views` is one of VIEWS, and `repeat_unmixed` a choice that it leaves."""
    check_choice("views", views, VIEWS)
    check_choice("repeat_unmixed", repeat_unmixed, (False, True))
    if repeat_unmixed and views == "mixed":
        raise InputError("repeat_unmixed has no effect with views='mixed', which gives each image once")


def policy_magnitude(policy: str, magnitude: int | None, prefix: str = "") -> int:
    """The magnitude of a policy, the usual one where None is given; 0 of a policy that has none.

    prefix: before the names in messages. Raises InputError for another policy than POLICIES, a magnitude out of its
    range, and one that would change nothing.
    """
    check_choice(f"{prefix}policy", policy, POLICIES)
    name = f"{prefix}policy{'-' if prefix else '_'}magnitude"
    if policy not in _MAGNITUDES:
        if magnitude is not None:
            raise InputError(
                f"{name} changes nothing with {prefix}policy {policy}: it is of {' and '.join(_MAGNITUDES)}"
            )
        return 0
    low, high, usual = _MAGNITUDES[policy]
    if magnitude is None:
        return usual
    check_whole(f"{name} of {policy}", magnitude, low, high)
    return int(magnitude)


def uses_single(aug: str) -> bool:
    """Whether the augmentation contains APR-S."""
    return aug in ("apr-s", "apr-sp")


def uses_pair(aug: str) -> bool:
    """Whether the augmentation contains APR-P, and with it a second view of each image."""
    return aug in ("apr-p", "apr-sp", "vipaug")


@dataclass(frozen=True)
class AprRecipe:
    """How APR is applied to a data set.

    pair_probability: share of batches whose images are mixed (APR-P's coin).
    pair_after_normalise: whether APR-P sees normalised images (ImageNet) or images in 0..1 (CIFAR).
    mean, std: of the normalization, one per channel, for images in 0..1.
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

    def gray(self) -> AprRecipe:
        """This recipe for gray images, whose channels are one: mean and std are those of the three on average."""
        mean, std = (values[0] if len(set(values)) == 1 else sum(values) / 3 for values in (self.mean, self.std))
        return replace(self, mean=(mean,) * 3, std=(std,) * 3)


# The released code (iCGY96/APR): main_imagenet's and main's settings.
IMAGENET = AprRecipe(0.5, True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CIFAR = AprRecipe(0.6, False, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
# autoattacks/train_fgsm there: another deviation, and mixed after normalization.
CIFAR_ADVERSARIAL = AprRecipe(0.4, True, mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))


def is_of_cifar(options: Mapping[str, Any]) -> bool:
    """Whether a trainer's options are those of the CIFAR trainer, which alone name a data set."""
    return "dataset" in options


def recipe_of(options: Mapping[str, Any]) -> AprRecipe:
    """The published recipe that a trainer follows, with what its options change in it."""
    published = IMAGENET
    if is_of_cifar(options):
        published = CIFAR if options.get("adversarial", "none") == "none" else CIFAR_ADVERSARIAL
    changed = {name: options[name] for name in ("overflow", "axes", "pair_probability") if name in options}
    return replace(published, **changed)


FILTERS = ("bilinear", "bicubic")
GEOMETRIES = ("center", "squash", "border")


@dataclass(frozen=True)
class Scaling:
    """How an image is scaled before an evaluation's center crop.

    over_crop: length of a side then, in sides of the crop. filter: one of FILTERS, antialiased. geometry: which side it
    is, one of GEOMETRIES, timm's crop modes: center: the shorter one; border: the longer one; squash: both, whatever
    the shape. What the image does not fill of the crop is black, with border of the mean's color.
    """

    over_crop: float = 256 / 224
    filter: str = "bilinear"
    geometry: str = "center"

    def __post_init__(self) -> None:
        if not isinstance(self.over_crop, Real) or not 0 < self.over_crop < math.inf:
            raise InputError(f"over_crop must be a positive number, got {self.over_crop}")
        check_choice("filter", self.filter, FILTERS)
        check_choice("geometry", self.geometry, GEOMETRIES)

    def resized(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Height and width of an image, scaled for a crop of size × size."""
        side = round(size * self.over_crop)
        if self.geometry == "squash":
            return side, side
        if self.geometry == "border":
            return round(height * side / max(height, width)), round(width * side / max(height, width))
        # torchvision cuts the longer side's length down to a whole number.
        return height * side // min(height, width), width * side // min(height, width)

    def border(self, mean: Sequence[float]) -> tuple[int, ...]:
        """The levels, 0..255, around an image that does not fill its crop, for a network of this `mean`, 0..1."""
        return tuple(round(255 * value) if self.geometry == "border" else 0 for value in mean)

    def in_words(self, size: int) -> str:
        """What becomes of an image for a network of size × size pixels."""
        side = round(size * self.over_crop)
        which = {"center": "shorter side", "border": "longer side", "squash": "both sides"}[self.geometry]
        return f"{which} scaled to {side} ({self.filter}), middle {size}×{size}"


STANDARD = Scaling()
"""torchvision's recipe for ImageNet, and that of the released code."""
CROP_PCT = 224 / 256
"""Its crop, in sides of the scaled image."""


def validation_view(options: Mapping[str, Any]) -> tuple[int, Scaling]:
    """Size in pixels and scaling of validation images, of the options of an ImageNet trainer; older ones have neither.

    A crop_pct that is not the published one means what it means to timm, which rounds the scaled side down.
    """
    size, crop_pct = options.get("val_size") or options["image_size"], options.get("val_crop", CROP_PCT)
    return size, STANDARD if crop_pct == CROP_PCT else Scaling(math.floor(size / crop_pct) / size)


WHOLE = Scaling(1.0, "bilinear", "squash")
"""That of train_cifar.py for the images of a folder."""

# What torchvision's RandomResizedCrop draws from.
CROP_SCALE = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

HW_DECODER_LOAD = 0.65
"""Share of JPEGs for a GPU's hardware decoder: DALI's default, to which its maintainers returned from 0.9."""


def check_crop(scale: Sequence[float], ratio: Sequence[float], hflip: float, prefix: str = "") -> None:
    """Raise InputError unless training crops can be drawn so. prefix: before the names in messages."""
    for name, values in (("scale", scale), ("ratio", ratio)):
        try:
            low, high = map(float, values)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        # "not (0 < ...)": it also refuses nan.
        if not 0 < low <= high < math.inf:
            raise InputError(f"{prefix}{name} must be two positive numbers, the smaller first, got {values}")
    if scale[1] > 1:
        raise InputError(f"{prefix}scale must be at most 1, the whole image, got {scale}")
    check_share(f"{prefix}hflip", hflip)


ON_ERROR = ("raise", "skip")
CHANNELS = (1, 3)
SAMPLERS = ("shuffle", "balanced")


DATASETS = ("cifar10", "cifar100", "digits", "folder")
