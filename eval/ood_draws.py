"""The measures of out-of-distribution scores of many draws, for the intervals of `apr_dali.eval.bootstrap`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali.eval.bootstrap import RESAMPLES, SEED, Floats, Interval, drawn, ends_of, together_of
from apr_dali.eval.ood import RECALL

LEVELS = 4096
"""Thresholds at the most: of more different scores neighbors count as one, in levels of as many images each."""
Drawn = dict[str, Floats]
"""Of each draw, (B,), by measure."""
Numbers = NDArray[np.int64]
"""Of the images in a draw."""


class CurveDraws:
    """Scores of two sets in their order; measures of draws of both."""

    def __init__(self, inside: ArrayLike, outside: ArrayLike, right: ArrayLike) -> None:
        """inside, outside: floating (N,) and (M,), higher = more in-distribution. right: bool (N,), of inside."""
        own, other = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
        found, counts = np.unique(np.concatenate([own, other]), return_counts=True)
        passed = np.cumsum(counts)
        # Levels of as many images each, as long as no two thresholds are one.
        level = passed * LEVELS // (passed[-1] + 1) if len(found) > LEVELS else np.arange(len(found))
        self.levels = int(level[-1]) + 1
        self._right = np.asarray(right, bool)
        # The highest scores first, as a falling threshold lets them pass.
        self._own, self._other = (self.levels - 1 - level[np.searchsorted(found, scores)] for scores in (own, other))

    def measures(self, inside: Sequence[Numbers], outside: Sequence[Numbers], as_openood: bool) -> Drawn:
        """Those of `ood_metrics` and `oscr`, and if asked for of `openood_metrics`, of B draws.

        inside, outside: the images in each draw.
        """
        own = self._passed([self._own[numbers] for numbers in inside])
        right = self._passed([self._own[numbers[self._right[numbers]]] for numbers in inside])
        other = self._passed([self._other[numbers] for numbers in outside])
        tpr, fpr = own / own[:, -1:], other / other[:, -1:]
        recall_out, precision_out = _found_out(own, other)
        found = {
            "auroc": _area(fpr, tpr),
            "aupr_in": (np.diff(tpr) * _precision(own, other)[:, 1:]).sum(1),
            "aupr_out": (np.diff(recall_out) * precision_out[:, 1:]).sum(1),
            "fpr95": _at_recall(tpr, fpr),
            "detection_accuracy": (tpr + 1 - fpr).max(1) / 2,
            "oscr": _area(fpr, right / own[:, -1:]),
        }
        if as_openood:
            found["openood_fpr95"] = _at_recall(recall_out, 1 - tpr[:, ::-1])
            found["openood_aupr_in"] = _area(tpr, _precision(own, other))
            found["openood_aupr_out"] = _area(recall_out, precision_out)
        return found

    def _passed(self, places: Sequence[Numbers]) -> Floats:
        """How many pass each threshold, (B, thresholds); none the first, all the last."""
        counts = [np.bincount(of, minlength=self.levels) for of in places]
        return np.pad(np.cumsum(counts, 1, dtype=np.float64), ((0, 0), (1, 0)))


def _found_out(own: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Recall and precision of the others below each threshold, from the lowest scores on."""
    below = other[:, -1:] - other[:, ::-1]
    return below / other[:, -1:], _precision(below, own[:, -1:] - own[:, ::-1])


def _precision(positive: Floats, negative: Floats) -> Floats:
    """The share of positives of those that pass; 1 of none, where the curve begins."""
    passed = positive + negative
    return np.where(passed > 0, positive / np.maximum(passed, 1), 1.0)


def _area(x: Floats, y: Floats) -> Floats:
    """Below straight lines between the points of each row."""
    return (np.diff(x) * (y[:, 1:] + y[:, :-1]) / 2).sum(1)


def _at_recall(recall: Floats, rate: Floats) -> Floats:
    """`rate` where the recall is first reached."""
    return rate[np.arange(len(rate)), np.argmax(recall >= RECALL, 1)]


def ood_intervals(
    inside: ArrayLike,
    right: ArrayLike,
    outside: Mapping[str, ArrayLike],
    means: Mapping[str, Sequence[str]],
    *,
    as_openood: bool = False,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, dict[str, Interval]]:
    """The intervals of each measure, by set and by mean.

    The images inside are drawn once for all sets, those of each set for themselves.

    Args:
        inside: scores, floating (N,). right: bool (N,), whether each of these images is classified right.
        outside: by the name of a set, scores (M,). means: by name, the sets that each is over.
        as_openood: those of `openood_metrics`, too.
    """
    count = len(np.asarray(inside))
    draws = {}
    for number, (name, scores) in enumerate(outside.items()):
        own = drawn(count, resamples=resamples, seed=seed)
        other = drawn(len(np.asarray(scores)), resamples=resamples, seed=[seed, number, 1])
        curve = CurveDraws(inside, scores, right)
        parts = []
        while part := list(islice(own, together_of(curve.levels))):
            parts.append(curve.measures(part, list(islice(other, len(part))), as_openood))
        draws[name] = {key: np.concatenate([of[key] for of in parts]) for key in parts[0]}
    joined = {
        mean: {key: np.mean([draws[name][key] for name in names], 0) for key in draws[names[0]]}
        for mean, names in means.items()
    }
    return {name: {key: ends_of(of) for key, of in found.items()} for name, found in {**draws, **joined}.items()}
