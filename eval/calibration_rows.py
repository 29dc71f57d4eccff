"""The measures of calibration of logits that lie on the disk, read part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from apr_dali.eval import calibration
from apr_dali.eval.calibration import ClassBins, Reliability
from apr_dali.eval.shared_pass import Logits

Choice = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Which of the images of some numbers are taken."""
Row = dict[str, float | None]


def temperature_of(logits: Logits, chosen: Choice) -> float:
    """`apr_dali.eval.calibration.fit_temperature` on the images that are chosen."""
    # In float16, as they lie on the disk.
    parts = [(part.half(), of) for part, of in _chosen(logits, chosen)]
    return calibration.fit_temperature(torch.cat([part for part, _ in parts]), torch.cat([of for _, of in parts]))


def measures_of(logits: Logits, chosen: Choice, temperature: float = 1.0) -> tuple[Row, Reliability]:
    """The measures of calibration by name, and the reliability diagram, of softmax(logits / temperature)."""
    confidences: list[NDArray[np.float64]] = []
    rights: list[NDArray[np.bool_]] = []
    nll = brier = 0.0
    bins: ClassBins | None = None
    for part, labels in _chosen(logits, chosen):
        scaled = part.double() / temperature
        probabilities = scaled.softmax(1)
        confidence, right = calibration.confidences(probabilities, labels)
        confidences.append(confidence)
        rights.append(right)
        nll += float(cross_entropy(scaled, labels, reduction="sum"))
        brier += calibration.brier(probabilities, labels) * len(labels)
        bins = bins or ClassBins(part.shape[1])
        bins.add(probabilities.numpy(), labels.numpy())
    assert bins is not None
    confidence, right = np.concatenate(confidences), np.concatenate(rights)
    diagram = calibration.reliability(confidence, right)
    many = len(right) >= calibration.RMS_BIN_SIZE
    row: dict[str, Any] = {
        "images": len(right),
        "accuracy": float(right.mean()),
        "confidence": float(confidence.mean()),
        "nll": nll / len(right),
        "brier": brier / len(right),
        "ece": calibration.ece_of(diagram),
        "classwise_ece": bins.error(),
        "rms": calibration.rms_of(confidence, right) if many else None,
        "rms_as_published": calibration.rms_of(confidence, right, as_published=True) if many else None,
        "aurra": calibration.aurra_of(confidence, right),
    }
    return row, diagram


def _chosen(logits: Logits, chosen: Choice) -> Iterator[tuple[Tensor, Tensor]]:
    for part, labels, numbers in logits.parts():
        taken = torch.from_numpy(chosen(numbers))
        if bool(taken.any()):
            yield part[taken], labels[taken]
