"""Telling in-distribution images from others by what a network says: scores and their measures.

A score is higher for an image that looks more like the training set. In-distribution is the positive class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from apr_dali.errors import InputError
from apr_dali.eval.checks import numpy_of

RECALL = 0.95


def max_softmax(logits: Tensor) -> Tensor:
    """The greatest softmax probability, float64 (N,), of logits (N, classes): the score of the APR paper's Table 2."""
    # In float64: float32 rounds every confident image to 1, and ties say nothing.
    return logits.double().softmax(1).amax(1)


def max_logit(logits: Tensor) -> Tensor:
    """The greatest logit, float64 (N,), of logits (N, classes): the score that the paper's released code computes."""
    return logits.double().amax(1)


def energy(logits: Tensor) -> Tensor:
    """The negative free energy logsumexp(logits), float64 (N,) (Liu et al., 2020, temperature 1)."""
    return logits.double().logsumexp(1)


SCORES: dict[str, Callable[[Tensor], Tensor]] = {"max-softmax": max_softmax, "max-logit": max_logit, "energy": energy}


def auroc(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """The area under the ROC curve, 0..1: how often an own image has the higher score; as for `ood_metrics`."""
    from sklearn.metrics import roc_auc_score

    scores, is_in = both_scores(in_scores, out_scores)
    return float(roc_auc_score(is_in, scores))


def fpr95(in_scores: ArrayLike, out_scores: ArrayLike) -> float:
    """The share of other images that pass where 95 % of in-distribution ones do; as for `ood_metrics`."""
    return ood_metrics(in_scores, out_scores)["fpr95"]


def ood_metrics(in_scores: ArrayLike, out_scores: ArrayLike) -> dict[str, float]:
    """How well scores tell in-distribution from out-of-distribution images. Equal scores count half, in O(n log n).

    Args:
        in_scores, out_scores: floating (N,) and (M,), higher = more in-distribution.

    Returns:
        Each in 0..1: `auroc`; `aupr_in` and `aupr_out`, average precision with in- and with out-of-distribution as
        the positive class; `fpr95`, the share of out-of-distribution images that pass a threshold which at least
        95 % of the in-distribution ones pass (lower is better); `detection_accuracy`, the greatest mean of the two
        classes' accuracies over all thresholds.

    Raises:
        InputError: if one of them is empty or holds a nan.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    scores, is_in = both_scores(in_scores, out_scores)
    fpr, tpr, _ = roc_curve(is_in, scores, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(is_in, scores)),
        "aupr_in": float(average_precision_score(is_in, scores)),
        "aupr_out": float(average_precision_score(~is_in, -scores)),
        # tpr never falls, so the first index that reaches the recall has the smallest fpr.
        "fpr95": float(fpr[np.searchsorted(tpr, RECALL)]),
        "detection_accuracy": float((tpr + 1 - fpr).max() / 2),
    }


def oscr(in_scores: ArrayLike, correct: ArrayLike, out_scores: ArrayLike) -> float:
    """The area under the open-set classification rate, 0..1 (Dhamija et al., 2018).

    The curve gives, for each threshold, the share of in-distribution images that pass it and are classified right,
    over the share of out-of-distribution images that pass it. Never above the accuracy.

    Args:
        in_scores, out_scores: floating (N,) and (M,), higher = more in-distribution; of equal scores all pass at
            once, and the curve is a straight line there.
        correct: bool (N,), whether each in-distribution image is classified right.

    Raises:
        InputError: if there is no score, one is nan, or `correct` has another shape.
    """
    scores, is_in = both_scores(in_scores, out_scores)
    right, own = np.asarray(correct, bool), int(is_in.sum())
    if right.shape != (own,):
        raise InputError(f"correct must have the shape of in_scores, {(own,)}, got {right.shape}")
    gains = np.concatenate([right / own, np.zeros(len(scores) - own)])
    false = ~is_in / (len(scores) - own)
    order = np.argsort(-scores, kind="stable")
    last_of_equal = np.append(np.diff(scores[order]) != 0, True)
    rate = np.append(0.0, np.cumsum(gains[order])[last_of_equal])
    passed = np.append(0.0, np.cumsum(false[order])[last_of_equal])
    return float((np.diff(passed) * (rate[1:] + rate[:-1]) / 2).sum())


def both_scores(in_scores: ArrayLike, out_scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The order of all scores, floating (N + M,), in-distribution first, equal ones alike, and which are such.

    Raises InputError as `checked_values`.
    """
    inside, outside = checked_values("in_scores", in_scores), checked_values("out_scores", out_scores)
    # No more than their order is measured, and sklearn refuses infinite ones.
    _, order = np.unique(np.concatenate([inside, outside]), return_inverse=True)
    return order.astype(np.float64), np.arange(len(order)) < len(inside)


def checked_values(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Scores, called `name`, as float64 (N,); InputError if there is none, or one is nan."""
    scores = np.asarray(numpy_of(values), np.float64)
    if scores.ndim != 1 or not len(scores):
        raise InputError(f"{name} must be a list of one score or more, got the shape {scores.shape}")
    broken = int(np.isnan(scores).sum())
    if broken:
        raise InputError(f"{broken} of {len(scores)} {name} are nan: the network's logits are not finite")
    return scores
