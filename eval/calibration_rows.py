"""The measures of calibration of logits that lie on the disk, read part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from apr_dali.eval import calibration
from apr_dali.eval.bootstrap import Interval, Statistic, draws_of, ends_of, mean_intervals
from apr_dali.eval.calibration import ClassBins, Reliability
from apr_dali.eval.calibration_draws import CalibrationDraws, ClassBinDraws
from apr_dali.eval.shared_pass import Logits

Choice = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""Which of the images of some numbers are taken."""
Row = dict[str, float | None]


def temperature_of(logits: Logits, chosen: Choice) -> float:
    """`apr_dali.eval.calibration.fit_temperature` on the images that are chosen."""
    # In float16, as they lie on the disk.
    parts = [(part.half(), of) for part, of in _chosen(logits, chosen)]
    return calibration.fit_temperature(torch.cat([part for part, _ in parts]), torch.cat([of for _, of in parts]))


def measures_of(
    logits: Logits, chosen: Choice, temperature: float = 1.0
) -> tuple[Row, Reliability, dict[str, Interval]]:
    """The measures of calibration by name, and the reliability diagram, of softmax(logits / temperature).

    Their intervals, see `apr_dali.eval.bootstrap`, are the third: they take the temperature as it is.
    """
    confidences: list[NDArray[np.float64]] = []
    rights: list[NDArray[np.bool_]] = []
    nlls: list[NDArray[np.float64]] = []
    briers: list[NDArray[np.float64]] = []
    bins: ClassBins | None = None
    images = int(chosen(np.arange(len(logits.labels))).sum())
    for part, labels in _chosen(logits, chosen):
        scaled = part.double() / temperature
        probabilities = scaled.softmax(1)
        confidence, right = calibration.confidences(probabilities, labels)
        confidences.append(confidence)
        rights.append(right)
        nlls.append(cross_entropy(scaled, labels, reduction="none").numpy())
        briers.append(calibration.briers(probabilities.numpy(), labels.numpy()))
        if bins is None:
            bins, bin_draws = ClassBins(part.shape[1]), ClassBinDraws(images, part.shape[1])
        for each in (bins, bin_draws):
            each.add(probabilities.numpy(), labels.numpy())
    assert bins is not None
    confidence, right = np.concatenate(confidences), np.concatenate(rights)
    diagram = calibration.reliability(confidence, right)
    means = {"accuracy": right, "confidence": confidence, "nll": np.concatenate(nlls), "brier": np.concatenate(briers)}
    many = len(right) >= calibration.RMS_BIN_SIZE
    row: dict[str, Any] = {
        "images": len(right),
        **{name: float(values.mean()) for name, values in means.items()},
        "ece": calibration.ece_of(diagram),
        "classwise_ece": bins.error(),
        "rms": calibration.rms_of(confidence, right) if many else None,
        "rms_as_published": calibration.rms_of(confidence, right, as_published=True) if many else None,
        "aurra": calibration.aurra_of(confidence, right),
    }
    intervals = {
        **dict(zip(means, mean_intervals(np.stack([*means.values()], 1)), strict=True)),
        **_intervals(CalibrationDraws(confidence, right), len(right)),
        "classwise_ece": ends_of(bin_draws.errors()),
    }
    return row, diagram, intervals


def _intervals(draws: CalibrationDraws, images: int) -> dict[str, Interval]:
    """Of the measures of confidences alone."""
    measures: dict[str, Statistic] = {"ece": draws.ece, "aurra": draws.aurra}
    if images >= calibration.RMS_BIN_SIZE:
        measures |= {"rms": draws.rms, "rms_as_published": partial(draws.rms, as_published=True)}
    together = draws_of(images, lambda counts: np.stack([of(counts) for of in measures.values()], 1))
    return {name: ends_of(column) for name, column in zip(measures, together.T, strict=True)}


def _chosen(logits: Logits, chosen: Choice) -> Iterator[tuple[Tensor, Tensor]]:
    for part, labels, numbers in logits.parts():
        taken = torch.from_numpy(chosen(numbers))
        if bool(taken.any()):
            yield part[taken], labels[taken]
