"""Published numbers to stand beside ours, in percent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One method's row; None where its paper gives no number.

    imagenet_c: mCE of ResNet-50. cifar10_c, cifar100_c: mean error of WRN-40-2.
    """

    method: str
    clean: float | None = None
    imagenet_c: float | None = None
    cifar10_c: float | None = None
    cifar100_c: float | None = None


PUBLISHED = (
    Published("standard", 23.9, 80.6, 26.9, 53.3),
    Published("AugMix", 22.4, 68.4, 11.2, 35.9),
    Published("APR-P", 24.4, 70.5, 18.3, 44.7),
    Published("APR-SP", 24.4, 65.0, 9.1, 32.9),
    Published("DeepAugment + APR-SP", 26.4, 57.5),
    Published("HybridAugment++", 23.7, 67.3, 8.3, 31.2),
    Published("PRIME + DeepAugment", imagenet_c=51.3),
)
NOTE = (
    "Clean error and mCE: ResNet-50 on ImageNet; mean error: WRN-40-2 on CIFAR-C. Other papers give 76.7 as the "
    "standard network's mCE. The APR paper's table has 69.3 for APR-P and 70.5 for APR-S, its repository's README "
    "the reverse."
)
