"""Whether a network is as often right as it says: calibration errors, and the temperature that corrects them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn.functional import cross_entropy

from apr_dali.errors import InputError, check_whole
from apr_dali.eval.checks import check_finite, numpy_of

BINS = 15
RMS_BIN_SIZE = 100
_PART = 512  # images
# Where the temperature is looked for. Beyond these a network says either nothing or always 1.
_TEMPERATURES = (0.05, 20.0)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """The expected calibration error, 0..1 (Guo et al., 2017): the mean gap of confidence and accuracy.

    Args:
        probabilities: floating (N, classes), rows of sum 1.
        labels: int (N,), 0..classes-1.
        bins: of equal width over 0..1, each with its upper end.

    Raises:
        InputError: as `confidences`, and for fewer bins than one.
    """
    return ece_of(reliability(*confidences(probabilities, labels), bins))


def ece_of(diagram: Reliability) -> float:
    """`ece` of a reliability diagram."""
    filled = diagram.count > 0
    gaps = np.abs(diagram.confidence - diagram.accuracy)[filled]
    return float((gaps * diagram.count[filled]).sum() / diagram.count.sum())


def rms(
    probabilities: ArrayLike, labels: ArrayLike, bin_size: int = RMS_BIN_SIZE, *, as_published: bool = False
) -> float:
    """The root mean square calibration error over bins of equally many images, 0..1 (Hendrycks et al., 2019).

    Args:
        probabilities, labels: as for `ece`.
        bin_size: images a bin, in order of confidence; the last bin takes what is over.
        as_published: leave out the last bin, that of the most confident images, but count its images, as the loop of
            the code released with ImageNet-A (hendrycks/natural-adv-examples) does. For comparison with its numbers.

    Raises:
        InputError: with fewer images than a bin takes, or of bad probabilities.
    """
    return rms_of(*confidences(probabilities, labels), bin_size, as_published=as_published)


def rms_of(confidence: Floats, correct: Bools, bin_size: int = RMS_BIN_SIZE, *, as_published: bool = False) -> float:
    """`rms` of confidences, float64 (N,), 0..1, and whether each was right, bool (N,)."""
    check_whole("bin_size", bin_size, 1)
    bins = len(confidence) // bin_size
    if not bins:
        raise InputError(f"the RMS calibration error needs {bin_size} images a bin, got {len(confidence)} in all")
    order = np.argsort(confidence, kind="stable")
    ends = [*range(bin_size, bins * bin_size, bin_size), len(order)]
    total = 0.0
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        if as_published and end == ends[-1]:
            break
        members = order[start:end]
        gap = confidence[members].mean() - correct[members].mean()
        total += len(members) / len(order) * gap**2
    return float(np.sqrt(total))


def classwise_ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS) -> float:
    """The class-wise expected calibration error, 0..1 (Kull et al., 2019): of each class's probability, mean over them.

    Args:
        probabilities, labels, bins: as for `ece`.
    """
    confidences(probabilities, labels)  # checks them
    rows, targets = numpy_of(probabilities), numpy_of(labels)
    found = ClassBins(rows.shape[1], bins)
    found.add(rows, targets)
    return found.error()


class ClassBins:
    """The bins of `classwise_ece`, filled part by part."""

    def __init__(self, classes: int, bins: int = BINS) -> None:
        check_whole("bins", bins, 1)
        self._classes, self._bins, self._images = classes, bins, 0
        # The gap of a bin, times its images, is what its probabilities and its labels sum to less each other.
        self._gaps = np.zeros(classes * bins)

    def add(self, probabilities: NDArray[Any], labels: NDArray[Any]) -> None:
        """Add images: probabilities (N, classes) and labels int (N,)."""
        self._images += len(labels)
        weights = probabilities.astype(np.float64)
        weights[np.arange(len(labels)), labels] -= 1
        place = bin_of(probabilities, self._bins) + self._bins * np.arange(self._classes)
        self._gaps += np.bincount(place.ravel(), weights.ravel(), len(self._gaps))

    def error(self) -> float:
        """The error of all images that were added."""
        return float(np.abs(self._gaps).sum() / self._images / self._classes)


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The Brier score, 0..2: the squared distance of the probabilities from the one right class, mean over images.

    Args:
        probabilities, labels: as for `ece`.
    """
    confidences(probabilities, labels)  # checks them
    return float(briers(numpy_of(probabilities).astype(np.float64), numpy_of(labels)).mean())


def briers(probabilities: Floats, labels: NDArray[Any]) -> Floats:
    """`brier` of each image, (N,), of probabilities, float64 (N, classes), and labels, int64 (N,)."""
    own = probabilities[np.arange(len(labels)), labels]
    return (probabilities**2).sum(1) - 2 * own + 1


def aurra(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The area under the response rate accuracy curve, 0..1: accuracy on the most confident images, mean over how many.

    Of equally confident images it takes the mean over their orders.

    Args:
        probabilities, labels: as for `ece`.
    """
    return aurra_of(*confidences(probabilities, labels))


def aurra_of(confidence: Floats, correct: Bools) -> float:
    """`aurra` of confidences, float64 (N,), and whether each was right, bool (N,)."""
    _, group, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    # Within a group of ties each image is as right as the group is in the mean.
    expected = (np.bincount(group, correct) / count)[np.sort(group)]
    return float((np.cumsum(expected) / np.arange(1, len(expected) + 1)).mean())


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: for each of B bins of equal width over 0..1, arrays (B,).

    count: images in it, int64. confidence, accuracy: their means, float64, 0..1; nan in an empty bin.
    """

    count: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> Reliability:
    """The reliability diagram of confidences, floating (N,), 0..1, and whether each was right, bool (N,).

    Raises InputError for other shapes, confidences beyond 0..1, or fewer bins than one.
    """
    check_whole("bins", bins, 1)
    confidence, correct = np.asarray(numpy_of(confidence), np.float64), np.asarray(numpy_of(correct), bool)
    if confidence.ndim != 1 or correct.shape != confidence.shape:
        raise InputError(f"expected confidence and correct, (N,) each, got {confidence.shape} and {correct.shape}")
    # Refuses nan, too.
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise InputError(f"confidence must be in 0..1, got {confidence.min()}..{confidence.max()}")
    index = bin_of(confidence, bins)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, values, bins) / count for values in (confidence, correct)]
    return Reliability(count, *means)


def bin_of(values: NDArray[Any], bins: int) -> NDArray[np.int64]:
    """The numbers of the bins, int64 (N, …), that values, floating (N, …), 0..1, are in."""
    # Bins have their upper end, so that certainty, exactly 1, is in the last one.
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), values, side="left") - 1, 0, bins - 1)


def confidences(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    """How sure a network is, float64 (N,), 0..1, and whether it is right, bool (N,).

    Raises:
        InputError: if `probabilities` is not (N, classes) of rows of sum 1, or `labels` is not (N,) classes.
    """
    rows, targets = _labeled("probabilities", probabilities, labels)
    broken = int((~np.isfinite(rows)).any(1).sum())
    if broken:
        raise InputError(f"the probabilities of {broken} of {len(rows)} images are nan or infinite: so are the logits")
    if rows.min() < 0 or not np.allclose(rows.sum(1, dtype=np.float64), 1, atol=1e-3):
        raise InputError("expected probabilities in rows of sum 1: apply softmax to logits first")
    # Sums of float32 softmax can exceed 1 in the last digit.
    return np.minimum(rows.max(1).astype(np.float64), 1), rows.argmax(1) == targets


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The temperature T for which softmax(logits / T) has the least cross-entropy (Guo et al., 2017).

    Args:
        logits: floating (N, classes), of images that nothing else was tuned on.
        labels: int (N,).

    Returns:
        T, 0.05 to 20; the end of this range where the best lies beyond it, as for a network that is always right.

    Raises:
        InputError: if a logit is not finite, or as `confidences` for other shapes and labels.
    """
    from scipy.optimize import minimize_scalar

    # torch warns of arrays that cannot be written to, and takes none with negative strides.
    arrays = (np.require(values, requirements=("C", "W")) for values in _labeled("logits", logits, labels))
    given, targets = map(torch.from_numpy, arrays)
    check_finite(given)
    # In parts: in float64, all of them take much memory.
    parts = list(zip(given.split(_PART), targets.split(_PART), strict=True))

    def loss(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        sums = [cross_entropy(part.double() * inverse, of, reduction="sum") for part, of in parts]
        return float(sum(sums)) / len(targets)

    # Convex in 1/T, so with one minimum in log(1/T) too, where steps are even.
    low, high = (-np.log(t) for t in reversed(_TEMPERATURES))
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5})
    return float(np.exp(-best.x))


def _labeled(name: str, values: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """`values`, called `name`, (N, classes), and labels (N,) of these classes; InputError for anything else."""
    rows, targets = numpy_of(values), numpy_of(labels)
    if rows.ndim != 2 or targets.shape != rows.shape[:1] or not len(rows):
        raise InputError(f"expected {name} (N, classes) and labels (N,), got {rows.shape} and {targets.shape}")
    if targets.dtype.kind not in "iub":
        raise InputError(f"labels must be whole numbers of classes, got {targets.dtype}")
    if targets.min() < 0 or targets.max() >= rows.shape[1]:
        raise InputError(f"labels must be in 0..{rows.shape[1] - 1}, got {targets.min()}..{targets.max()}")
    return rows, targets.astype(np.int64)
