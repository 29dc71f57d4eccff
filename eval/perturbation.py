"""How steady answers are while an image changes little by little: flip rate and top-5 distance of ImageNet-P.

Hendrycks and Dietterich, 2019, section 3.2 and `ImageNet-P/test.py` of hendrycks/robustness. A sequence of frames is
compared frame by frame with the one before; under noise, whose frames differ as much from each other as from the first,
with the first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError

PERTURBATIONS = (
    *("gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow"),
    *("brightness", "translate", "rotate", "tilt", "scale"),
)
"""The 10 that mFR and mT5D are over, in the order of the paper's table."""
EXTRA_PERTURBATIONS = ("speckle_noise", "gaussian_blur", "spatter", "shear")
TOP = 5

Ranked = NDArray[np.int64]
"""(frames, classes): the numbers of the classes of each frame, from the most likely to the least."""


def is_noise(perturbation: str) -> bool:
    """Whether frames are compared with the first one."""
    return "noise" in perturbation


def ranked(logits: NDArray[np.floating]) -> Ranked:
    """The classes of each frame of logits (frames, classes) in order; of equal ones the lower number first."""
    return np.argsort(-logits, axis=1, kind="stable")


def flip_rate(order: Ranked, noise: bool) -> float:
    """The share of frames, after the first, that are taken for another class than that which they are compared with."""
    first, others = _compared(order, noise)
    return float((others[:, 0] != first[:, 0]).mean())


def top5_distance(order: Ranked, noise: bool) -> float:
    """The mean top-5 distance of the frames after the first to those that they are compared with.

    Of a class that is i-th in the one and j-th in the other, the places between them that are among the first five
    count, for each of the first five classes of the frame that is compared with: 0 for the same five in the same order.
    """
    first, others = _compared(order, noise)
    places = np.empty_like(others)
    np.put_along_axis(places, others, np.arange(others.shape[1])[None], 1)
    moved = np.take_along_axis(places, first[:, :TOP], 1)
    # Place n, from 0, lies n or at the most five places below the top.
    shared = np.arange(first[:, :TOP].shape[1])
    return float(np.abs(np.minimum(moved, TOP) - shared).sum(1).mean())


def _compared(order: Ranked, noise: bool) -> tuple[Ranked, Ranked]:
    if len(order) < 2:
        raise InputError(f"a sequence needs two frames or more, got {len(order)}")
    others = order[1:]
    return (np.broadcast_to(order[:1], others.shape) if noise else order[:-1]), others


def normalized_mean(own: Mapping[str, float], reference: Mapping[str, float]) -> float | None:
    """mFR or mT5D in percent, by what AlexNet has on the same images; None where one of PERTURBATIONS is missing."""
    if not set(PERTURBATIONS) <= set(own):
        return None
    for name in PERTURBATIONS:
        if not reference.get(name):
            raise InputError(f"the reference has no number above 0 for {name}: it is no AlexNet's result on ImageNet-P")
    return 100 * float(np.mean([own[name] / reference[name] for name in PERTURBATIONS]))
