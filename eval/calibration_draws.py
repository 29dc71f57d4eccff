"""The measures of calibration of many draws of the same images, for the intervals of `apr_dali.eval.bootstrap`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, vstack

from apr_dali.eval.bootstrap import RESAMPLES, SEED, Counts, Floats, counted, together_of
from apr_dali.eval.calibration import BINS, RMS_BIN_SIZE, bin_of

_NUMBERS = 2**22
"""Of float32 that are held at once beside what is kept."""


class CalibrationDraws:
    """Measures of draws, each (B,) of counts (B, N): as `apr_dali.eval.calibration` has them of the images drawn."""

    def __init__(self, confidence: ArrayLike, right: ArrayLike) -> None:
        """confidence: floating (N,), 0..1. right: bool (N,), whether each image was."""
        sure, correct = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
        self._order = np.argsort(sure, kind="stable")
        self._sure, self._right = sure[self._order], correct[self._order]
        self._gaps = self._sure - self._right
        bins = bin_of(self._sure, BINS)
        self._bins = np.flatnonzero(np.diff(bins, prepend=-1))  # where those that are not empty begin
        self._ties = np.flatnonzero(np.diff(self._sure, prepend=-1))

    def ece(self, counts: Counts) -> Floats:
        """`ece`, of BINS."""
        # A bin's share of the error is what its confidences and its rights sum to less each other.
        sums = np.add.reduceat(counts[:, self._order] * self._gaps, self._bins, 1)
        return np.abs(sums).sum(1) / len(self._gaps)

    def rms(self, counts: Counts, bin_size: int = RMS_BIN_SIZE, *, as_published: bool = False) -> Floats:
        """`rms`; there must be `bin_size` images or more."""
        images, bins = len(self._gaps), len(self._gaps) // bin_size
        starts = np.arange(bins) * bin_size
        sizes = np.diff(starts, append=images)
        # The images of each draw in order of confidence.
        drawn = _repeated(self._gaps, counts[:, self._order]).reshape(len(counts), images)
        terms = (np.add.reduceat(drawn, starts, 1) / sizes) ** 2 * (sizes / images)
        return np.sqrt(terms[:, : bins - as_published].sum(1))

    def aurra(self, counts: Counts) -> Floats:
        """`aurra`."""
        # From the most confident on, a group of ties at a time.
        chosen = counts[:, self._order]
        of_group = np.add.reduceat(chosen, self._ties, 1)[:, ::-1]
        right = np.add.reduceat(chosen * self._right, self._ties, 1)[:, ::-1]
        expected = np.repeat((right / np.maximum(of_group, 1)).ravel(), of_group.ravel())
        sums = np.cumsum(expected.reshape(len(counts), -1), 1)
        return (sums / np.arange(1, sums.shape[1] + 1)).mean(1)


class ClassBinDraws:
    """The class-wise calibration error of draws, filled part by part as `apr_dali.eval.calibration.ClassBins`."""

    def __init__(
        self, images: int, classes: int, bins: int = BINS, *, resamples: int = RESAMPLES, seed: int = SEED
    ) -> None:
        """images: how many there are in all."""
        parts = counted(images, together_of(images), resamples=resamples, seed=seed)
        self._counts = np.concatenate([part.astype(np.uint8) for part in parts])
        self._bins, self._added = bins, 0
        self._sums = np.zeros((resamples, classes), np.float32)
        self._above_lowest: list[csr_array] = []

    def add(self, probabilities: NDArray[Any], labels: NDArray[Any]) -> None:
        """Add the next images: probabilities (N, classes) and labels int (N,)."""
        end = self._added + len(labels)
        counts = self._counts[:, self._added : end].astype(np.float32)
        self._added = end
        gaps = probabilities.astype(np.float32)
        gaps[np.arange(len(labels)), labels] -= 1
        place = bin_of(probabilities, self._bins)
        # Of many classes all but a few are in the lowest bin, which is what the others leave of the whole.
        self._sums += counts @ gaps
        image, number = np.nonzero(place)
        column = self._bins * number + place[image, number]
        shape = (len(labels), self._sums.shape[1] * self._bins)
        self._above_lowest.append(csr_array((gaps[image, number], (image, column)), shape=shape))

    def errors(self) -> Floats:
        """`classwise_ece` of each draw, (R,)."""
        resamples, classes = self._sums.shape
        above_lowest = vstack(self._above_lowest, "csr")
        # The bins of all draws at once would be gigabytes with many classes.
        together = max(1, _NUMBERS // max(above_lowest.shape))
        gaps = np.empty(resamples)
        for part in (slice(start, start + together) for start in range(0, resamples, together)):
            above = (self._counts[part].astype(np.float32) @ above_lowest).reshape(-1, classes, self._bins)
            gaps[part] = np.abs(above).sum((1, 2)) + np.abs(self._sums[part] - above.sum(2)).sum(1)
        return gaps / self._counts.shape[1] / classes


def _repeated(values: Floats, counts: Counts) -> Floats:
    """`values` (N,), each as often as each row of counts (B, N) says, one row after another."""
    return np.repeat(np.broadcast_to(values, counts.shape).ravel(), counts.ravel())
