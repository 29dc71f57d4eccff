"""OpenOOD v1.5 (Zhang et al., 2023): its sets, near and far, and its measures.

Source: https://github.com/Jingkang50/OpenOOD, `openood/evaluation_api/datasets.py` and `openood/evaluators/metrics.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from apr_dali.data.image_list import ROOTS
from apr_dali.errors import InputError
from apr_dali.eval.ood import RECALL, both_scores

_CIFAR_FAR = ("mnist", "svhn", "texture", "places365")


@dataclass(frozen=True)
class Suite:
    """The sets of a benchmark by the names of their lists.

    shifted: of the same classes, for the full spectrum. val: of others, that parameters are searched on.
    """

    near: tuple[str, ...]
    far: tuple[str, ...]
    val: str
    shifted: tuple[str, ...] = ()


SUITES = {
    "imagenet": Suite(
        ("ssb_hard", "ninco"),
        ("inaturalist", "textures", "openimage_o"),
        "openimage_o",
        ("imagenet_v2", "imagenet_c", "imagenet_r"),
    ),
    "cifar10": Suite(("cifar100", "tin"), _CIFAR_FAR, "tin", ("cifar10c",)),
    "cifar100": Suite(("cifar10", "tin"), _CIFAR_FAR, "tin"),
}
"""By the kind of a network's classes."""


@dataclass(frozen=True)
class Lists:
    """The image lists of a benchmark by set.

    data, fit, val_data: the network's own test, training and validation images. ood_val: validation images of others.
    """

    data: str
    fit: str
    val_data: str
    ood_val: str
    near: dict[str, str]
    far: dict[str, str]
    shifted: dict[str, str]


def lists_below(folder: str | Path, kind: str, full_spectrum: bool = False) -> Lists:
    """The lists of OpenOOD's folder `data` for a network of classes of `kind`.

    Args:
        folder: with `benchmark_imglist`, and the folders of images beside it.
        kind: one of SUITES. full_spectrum: with the shifted sets.

    Raises:
        InputError: for another kind, or a list that is not there.
    """
    if kind not in SUITES:
        raise InputError(f"OpenOOD has no sets for this network: expected one of {', '.join(SUITES)}, got {kind!r}")
    suite = SUITES[kind]
    if full_spectrum and not suite.shifted:
        raise InputError(f"OpenOOD has no full spectrum for {kind}: leave out --full-spectrum")
    home = Path(folder) / "benchmark_imglist" / kind
    if not home.is_dir():
        images = " and ".join(ROOTS)
        raise InputError(
            f"{home} is not there: expected OpenOOD's folder data, with benchmark_imglist and {images} in it, from "
            "https://github.com/Jingkang50/OpenOOD"
        )

    def found(part: str, name: str) -> str:
        path = home / f"{part}_{name}.txt"
        if not path.is_file():
            raise InputError(f"{path} is not there; {home} has {', '.join(sorted(os.listdir(home))) or 'nothing'}")
        return str(path)

    def of(names: tuple[str, ...]) -> dict[str, str]:
        return {name: found("test", name) for name in names}

    shifted = of(suite.shifted) if full_spectrum else {}
    # Asked for only where scores are fitted, or parameters searched for.
    fit, val_data, ood_val = (
        str(home / f"{name}.txt") for name in (f"train_{kind}", f"val_{kind}", f"val_{suite.val}")
    )
    return Lists(found("test", kind), fit, val_data, ood_val, of(suite.near), of(suite.far), shifted)


def openood_metrics(in_scores: ArrayLike, out_scores: ArrayLike) -> dict[str, float]:
    """OpenOOD v1.5's FPR95 and AUPR, each in 0..1, of scores, floating (N,) and (M,), higher = more in-distribution.

    Other than `apr_dali.eval.ood.ood_metrics`: the positive class is out-of-distribution, so `openood_fpr95` is the
    share of in-distribution images that are taken for others where at least 95 % of the others are found; and
    `openood_aupr_in` and `openood_aupr_out` are areas below straight lines between the points of the curve.
    """
    from sklearn.metrics import auc, precision_recall_curve, roc_curve

    scores, is_in = both_scores(in_scores, out_scores)
    fpr, tpr, _ = roc_curve(~is_in, -scores)
    found = {"openood_fpr95": float(fpr[np.argmax(tpr >= RECALL)])}
    for name, positive, values in (("in", is_in, scores), ("out", ~is_in, -scores)):
        precision, recall, _ = precision_recall_curve(positive, values)
        found[f"openood_aupr_{name}"] = float(auc(recall, precision))
    return found
