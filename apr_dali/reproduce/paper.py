"""What the paper's tables and figures say, in percent: Chen et al., Amplitude-Phase Recombination (ICCV 2021).

Figure 9 is drawn without numbers, and so are the heat maps, which the README of the released code shows.
"""

from __future__ import annotations

from apr_dali.eval.corruption import CORRUPTIONS

NETWORKS = {
    "allconv": "AllConvNet",
    "densenet-bc-100-12": "DenseNet",
    "wrn-40-2": "WideResNet",
    "resnext-29-32x4": "ResNeXt",
}
"""What Table 1 calls the networks, by their exact names here."""
MEAN = "mean"
_COMPARED = (
    *("standard", "cutout", "mixup", "cutmix", "adv-training"),
    *("apr-p", "autoaugment", "augmix", "apr-s", "apr-sp"),
)


def _table_1(*rows: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(_COMPARED, row, strict=True)) for name, row in zip((*NETWORKS, MEAN), rows, strict=True)}


TABLE_1 = {
    "cifar10": _table_1(
        (30.8, 32.9, 24.6, 31.3, 28.1, 21.5, 29.2, 15.0, 14.8, 11.5),
        (30.7, 32.1, 24.6, 33.5, 27.6, 20.3, 26.6, 12.7, 12.3, 10.3),
        (26.9, 26.8, 22.3, 27.1, 26.2, 18.3, 23.9, 11.2, 10.6, 9.1),
        (27.5, 28.9, 22.6, 29.5, 27.0, 18.5, 24.2, 10.9, 11.0, 9.1),
        (29.0, 30.2, 23.5, 30.3, 27.2, 19.7, 26.0, 12.5, 12.2, 10.0),
    ),
    "cifar100": _table_1(
        (56.4, 56.8, 53.4, 56.0, 56.0, 47.5, 55.1, 42.7, 39.8, 35.9),
        (59.3, 59.6, 55.4, 59.2, 55.2, 49.8, 53.9, 39.6, 38.3, 35.8),
        (53.3, 53.5, 50.4, 52.9, 55.1, 44.7, 49.6, 35.9, 35.5, 32.9),
        (53.4, 54.6, 51.4, 54.1, 54.4, 44.2, 51.3, 34.9, 33.7, 31.0),
        (55.6, 56.1, 52.6, 55.5, 55.2, 46.6, 52.5, 38.3, 36.8, 33.9),
    ),
}
"""Mean error on CIFAR-10-C and CIFAR-100-C: by data set, by network and as their mean, by method."""

OOD_SETS = ("SVHN", "LSUN_resize", "Imagenet_resize", "LSUN_fix", "Imagenet_fix", "CIFAR-100")
_TABLE_2 = {
    "standard": (93.0, 88.6, 90.7, 88.3, 87.5, 87.4, 85.8, 88.1),
    "cutout": (95.8, 93.6, 94.5, 90.2, 92.2, 89.0, 86.4, 91.0),
    "mixup": (96.1, 78.1, 80.7, 76.5, 80.7, 76.0, 74.9, 77.8),
    "apr-p": (95.0, 98.1, 93.7, 95.2, 91.4, 91.1, 88.9, 93.1),
    "supclr": (93.8, 97.3, 92.8, 91.4, 91.6, 90.5, 88.6, 92.0),
    "csi": (94.8, 96.5, 96.3, 96.2, 92.1, 92.4, 90.5, 94.0),
    "apr-s": (95.1, 90.4, 96.1, 94.2, 90.9, 89.1, 86.8, 91.3),
    "apr-sp": (95.6, 97.7, 97.9, 96.3, 93.7, 92.8, 89.5, 94.7),
}
ACCURACY = "accuracy"
TABLE_2 = {method: dict(zip((ACCURACY, *OOD_SETS, MEAN), row, strict=True)) for method, row in _TABLE_2.items()}
"""By method: test accuracy, the AUROC of each set that a ResNet-18 of CIFAR-10 does not know, and their mean."""

TABLE_3 = {
    "fgsm": (83.3, 43.2),
    "fgsm-cutout": (81.3, 41.6),
    "fgsm-apr-p": (85.3, 44.1),
    "fgsm-apr-s": (83.5, 45.0),
    "fgsm-apr-sp": (84.3, 45.7),
}
"""By method: accuracy on clean images and under AutoAttack, L∞, ε = 8/255."""

CLEAN, MCE = "clean_error", "mce"
_TABLE_4 = {
    "standard": (23.9, 79, 80, 82, 82, 90, 84, 80, 86, 81, 75, 65, 79, 91, 77, 80, 80.6),
    "patch-uniform": (24.5, 67, 68, 70, 74, 83, 81, 77, 80, 74, 75, 62, 77, 84, 71, 71, 74.3),
    "autoaugment": (22.8, 69, 68, 72, 77, 83, 80, 81, 79, 75, 64, 56, 70, 88, 57, 71, 72.7),
    "random-aa": (23.6, 70, 71, 72, 80, 86, 82, 81, 81, 77, 72, 61, 75, 88, 73, 72, 76.1),
    "maxblur-pool": (23.0, 73, 74, 76, 74, 86, 78, 77, 77, 72, 63, 56, 68, 86, 71, 71, 73.4),
    "sin": (27.2, 69, 70, 70, 77, 84, 76, 82, 74, 75, 69, 65, 69, 80, 64, 77, 73.3),
    "augmix": (22.4, 65, 66, 67, 70, 80, 66, 66, 75, 72, 67, 58, 58, 79, 69, 69, 68.4),
    "apr-s": (24.5, 61, 64, 60, 73, 87, 72, 81, 72, 67, 62, 56, 70, 83, 79, 71, 70.5),
    "apr-p": (24.4, 64, 68, 68, 70, 89, 69, 81, 69, 69, 55, 57, 58, 85, 66, 72, 69.3),
    "apr-sp": (24.4, 55, 61, 54, 68, 84, 68, 80, 62, 62, 49, 53, 57, 83, 70, 69, 65.0),
    "deepaugment": (26.3, 49, 49, 48, 62, 74, 68, 79, 68, 64, 64, 57, 63, 78, 50, 73, 63.1),
    "deepaugment-apr-sp": (26.4, 44, 45, 41, 57, 70, 60, 79, 56, 56, 50, 54, 54, 78, 47, 71, 57.5),
}
TABLE_4 = {method: dict(zip((CLEAN, *CORRUPTIONS, MCE), row, strict=True)) for method, row in _TABLE_4.items()}
"""Of ResNet-50, by method: test error, the corruption error of each corruption of ImageNet-C, and their mean, mCE."""

FIGURE_4 = {
    "full": {"full": 93.0, "low": 89.5, "band": 83.0, "high": 77.8},
    "low": {"full": 89.2, "low": 89.0, "band": 66.1, "high": 66.5},
    "band": {"full": 83.7, "low": 52.8, "band": 83.3, "high": 51.8},
    "high": {"full": 48.6, "low": 27.1, "band": 26.9, "high": 46.5},
}
"""Test accuracy of a ResNet-18 on CIFAR-10, by the amplitude's band and by the phase's."""
