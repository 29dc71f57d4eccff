"""The augmentations beside APR as torchvision v2 transforms, seeded as those of APR are.

v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ToImage(), Prime(dataset="imagenet"), ...])
images = AmplitudeMix()(images)     # those that mix the images of a batch stand after the collate function
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from apr_dali.augmentations import Augmentation, find
from apr_dali.augmentations.functional import check_options, sample_and_apply
from apr_dali.errors import InputError, check_choice
from apr_dali.transforms.base import OfLevels, is_plain_tensor


class Augment(OfLevels):
    """One augmentation beside APR, by name or as an `Augmentation` of yours.

    Takes a PIL image (made RGB), or a tensor (..., C, H, W), uint8 or floating, on the CPU or a GPU; gives the same
    kind. Floating images are in 0..1 where the augmentation is `unit`, else as the network takes them. An augmentation
    whose draws contain operations of APR-S takes uint8 of 3 channels alone. One that mixes the images of a batch takes
    tensors (B, C, H, W) alone, like v2.MixUp; labels beside them stay, as they belong to the image that keeps its phase
    or its low frequencies. What is beside an image passes through, as with `AprSingle`.

    Args:
        augmentation: see `apr_dali.augmentations.NAMES`.
        dataset: whose published settings are taken; those of another data set where the paper has none for it, see
            `Augmentation.recipe`.
        seed: of this process; give each process of a distributed run another. None: torch's generator.
        overflow: how values become levels of uint8 images, see `apr_dali.augmentations.apply`; floating ones are
            refused with it.
        backend: see `apr_dali.augmentations.apply`.
        settings: in place of published ones: arguments of `sample` of the augmentation's draws.
    """

    def __init__(
        self,
        augmentation: str | Augmentation,
        *,
        dataset: str = "cifar10",
        seed: int | None = None,
        overflow: str | None = None,
        backend: str = "auto",
        **settings: Any,
    ) -> None:
        super().__init__(seed)
        self.augmentation = find(augmentation)
        check_options(overflow, backend)
        self.augmentation.check_settings(settings)
        self.augmentation.sample(1, 8, 8, 0, dataset=dataset, **settings)  # refuses values that are none
        self.dataset, self.overflow, self.backend, self.settings = dataset, overflow, backend, settings

    takes = "PIL images or one tensor (..., C, H, W), uint8 or floating"

    def passed_images(self, passed: list[Any]) -> bool:
        """Whether an image is among the parts of a sample that would pass through: floating ones, too."""
        floating = (each for each in passed if is_plain_tensor(each) and each.is_floating_point())
        return super().passed_images(passed) or any(each.ndim > 2 and each.shape[-3] in (1, 3) for each in floating)

    def check_tensor(self, tensor: Tensor) -> None:
        """Raise InputError for a tensor that is no uint8 or floating (..., C, H, W), or no batch of images to mix."""
        record = self.augmentation
        if record.takes == "levels":
            super().check_tensor(tensor)
        got = f"got {tensor.dtype} with the shape {tuple(tensor.shape)}"
        if tensor.ndim < 3 or not (tensor.dtype == torch.uint8 or tensor.is_floating_point()):
            raise InputError(f"{type(self).__name__} takes uint8 or floating tensors (..., C, H, W), {got}")
        if record.partner and tensor.ndim < 4:
            raise InputError(f"{type(self).__name__} {_MIXES}, {got}")

    def of_planes(self, batch: Tensor, seed: int) -> Tensor:
        """The result for uint8 or floating (N, C, H, W), as the same."""
        if batch.dtype == torch.uint8:
            return super().of_planes(batch, seed)
        out: Tensor = self._apply(batch, seed)
        return out

    def of_batch(self, images: Any, seed: int) -> Any:
        """The result for uint8 (N, H, W, C), an array or a tensor, as the same."""
        if self.augmentation.partner and isinstance(images, np.ndarray):
            raise InputError(f"{type(self).__name__} {_MIXES}, got a PIL image")
        return self._apply(images, seed)

    def _apply(self, images: Any, seed: int) -> Any:
        options: dict[str, Any] = {"dataset": self.dataset, "overflow": self.overflow, "backend": self.backend}
        return sample_and_apply(self.augmentation, images, seed, **options, **self.settings)

    def extra_repr(self) -> str:
        """What is shown of it."""
        options = {"overflow": self.overflow, "backend": None if self.backend == "auto" else self.backend}
        given = {**{name: value for name, value in options.items() if value is not None}, **self.settings}
        told = "".join(f", {name}={value}" for name, value in given.items())
        return f"{self.augmentation.name}, dataset={self.dataset}, seed={self.seed}{told}"


_MIXES = "mixes the images of a batch: give it a tensor (B, C, H, W), in the collate function or in the loop"


class _Named(Augment):
    """An augmentation with a class of its own."""

    name: str

    def __init__(self, **options: Any) -> None:
        super().__init__(self.name, **options)


class AmplitudeMix(_Named):
    """FACT's amplitude mix on a batch. settings: `alpha`, `ratio`; options as of `Augment`."""

    name = "amplitude-mix"


class FDA(_Named):
    """FDA's swap of low amplitudes on a batch. settings: `beta`, two numbers; options as of `Augment`."""

    name = "fda"


class Afa(_Named):
    """AFA's waves on images in 0..1. settings: `mean`, `least`, `angles`; options as of `Augment`."""

    name = "afa"


class VipAug(_Named):
    """VIPAug-G on uint8 images; in training `AprPair` follows. settings: `vital`, `nonvital`, `p`; options as of
    `Augment`."""

    name = "vipaug-g"


class SpectralGains(_Named):
    """Gains and masks on the spectrum. settings: `p`, `amplitude`, `phase`, `dropped`, `gaussians`, `sigma`; options as
    of `Augment`."""

    name = "spectral-gains"


class Prime(_Named):
    """PRIME on images in 0..1. settings: `cuts`, `color_cut`, `color_variance`, `bandwidth`, `sigma`, `chains` and
    `steps`; options as of `Augment`."""

    name = "prime"


class RandConv(_Named):
    """RandConv. settings: `p`, `sizes`, `mixing`, `mean`, `std`: 0 and 1 for images that are normalized already;
    options as of `Augment`."""

    name = "randconv"


class HybridAugment(Augment):
    """HybridAugment, with `plus` HybridAugment++.

    Args:
        variant: "p" on a batch, settings `p`, `kernel`, `sigma`, `low_p`; or "s" on uint8 images, settings `kernel`,
            `sigma`. For -PS both, "s" where `AprSingle` stands and "p" where `AprPair` does.
        plus: whether APR-P, or APR-S, is put on the low parts.
        options: as of `Augment`.
    """

    def __init__(self, variant: str, *, plus: bool = False, **options: Any) -> None:
        check_choice("variant", variant, ("p", "s"))
        check_choice("plus", plus, (False, True))
        super().__init__(f"hybrid{'++' if plus else ''}-{variant}", **options)
