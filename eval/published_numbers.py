"""Published numbers to stand beside ours, in percent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One method's row; None where its paper gives no number.

    imagenet_c: mCE of ResNet-50. ce: the corruption errors that it is the mean of, in the order of `CORRUPTIONS`.
    cifar10_c, cifar100_c: mean error of WRN-40-2. imagenet_c_bar: mean error of ResNet-50; cifar10_c_bar: of WRN-40-2.
    """

    method: str
    clean: float | None = None
    imagenet_c: float | None = None
    cifar10_c: float | None = None
    cifar100_c: float | None = None
    ce: tuple[int, ...] = ()
    imagenet_c_bar: float | None = None
    cifar10_c_bar: float | None = None


PUBLISHED = (
    Published(
        *("standard", 23.9, 80.6, 26.9, 53.3),
        ce=(79, 80, 82, 82, 90, 84, 80, 86, 81, 75, 65, 79, 91, 77, 80),
        imagenet_c_bar=57.7,
        cifar10_c_bar=27.1,
    ),
    Published(
        *("AugMix", 22.4, 68.4, 11.2, 35.9),
        ce=(65, 66, 67, 70, 80, 66, 66, 75, 72, 67, 58, 58, 79, 69, 69),
        imagenet_c_bar=52.4,
        cifar10_c_bar=16.0,
    ),
    Published(
        *("APR-S", 24.5, 70.5, 10.6, 35.5),
        ce=(61, 64, 60, 73, 87, 72, 81, 72, 67, 62, 56, 70, 83, 79, 71),
    ),
    Published(
        *("APR-P", 24.4, 69.3, 18.3, 44.7),
        ce=(64, 68, 68, 70, 89, 69, 81, 69, 69, 55, 57, 58, 85, 66, 72),
    ),
    Published(
        *("APR-SP", 24.4, 65.0, 9.1, 32.9),
        ce=(55, 61, 54, 68, 84, 68, 80, 62, 62, 49, 53, 57, 83, 70, 69),
    ),
    Published(
        *("DeepAugment + APR-SP", 26.4, 57.5),
        ce=(44, 45, 41, 57, 70, 60, 79, 56, 56, 50, 54, 54, 78, 47, 71),
    ),
    Published("HybridAugment++", 23.7, 67.3, 8.3, 31.2),
    Published("PRIME + DeepAugment", imagenet_c=51.3),
    Published("AutoAugment", imagenet_c_bar=55.7, cifar10_c_bar=21.0),
    Published("Stylized-ImageNet", imagenet_c_bar=55.8),
    Published("Patch Gaussian", imagenet_c_bar=56.6, cifar10_c_bar=23.8),
    Published("ANT 3×3", imagenet_c_bar=53.9),
)
IMAGENET_NOTE = (
    "ResNet-50. Other papers give 76.7 as the standard network's mCE. The APR paper's Table 4 has 69.3 for APR-P and "
    "70.5 for APR-S, its repository's README the reverse."
)
CIFAR_NOTE = "Mean error of WRN-40-2."
C_BAR_NOTE = (
    "Mean error of ResNet-50, on CIFAR-10-C-bar of WRN-40-2: the table of Mintun, Kirillov and Xie (2021), whose code "
    "corrupts in memory, without the JPEG files of ImageNet-C-bar."
)
