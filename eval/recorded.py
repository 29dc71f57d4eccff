"""Accuracy on sets of images with what is kept of every image: whether it was right, how sure of it, and the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from apr_dali.eval.bootstrap import Interval, mean_intervals
from apr_dali.eval.calibration import RMS_BIN_SIZE, ece_of, reliability, rms_of
from apr_dali.eval.clean import CleanResult, correct_within
from apr_dali.eval.outputs import Column, gathered
from apr_dali.eval.passes import Source, run_each
from apr_dali.eval.state import State

KEEPS = "right, confidence and loss of images"
"""What the states of evaluations have beside accuracies, which states of earlier versions have not."""
_ROW = np.dtype([("right", "?"), ("confidence", "<f4"), ("loss", "<f4")])


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a set, in its order.

    right: bool (N,), whether the greatest logit was the target's. confidence: float64 (N,), 0..1, the greatest
    probability. loss: float64 (N,), the cross-entropy.
    """

    right: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    loss: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """The expected calibration error, 0..1."""
        return ece_of(reliability(self.confidence, self.right))

    @property
    def rms(self) -> float | None:
        """The RMS calibration error, 0..1; None with fewer images than its bins take."""
        return rms_of(self.confidence, self.right) if len(self.right) >= RMS_BIN_SIZE else None

    @property
    def loss_interval(self) -> Interval:
        """Of the mean of the loss."""
        return mean_intervals(self.loss[:, None])[0]

    def rows(self) -> NDArray[np.void]:
        """What `images_of` reads, a row an image."""
        return _rows_of(vars(self))


def _rows_of(values: Mapping[str, NDArray[Any]]) -> NDArray[np.void]:
    rows = np.empty(len(values["right"]), _ROW)
    for name in _ROW.names or ():
        rows[name] = values[name]
    return rows


Recorded = tuple[CleanResult, Images]


def images_of(rows: NDArray[np.void]) -> Images:
    """The images that `Images.rows` was of."""
    # Sums of float32 softmax can exceed 1 in the last digit.
    confidence = np.minimum(rows["confidence"].astype(np.float64), 1)
    return Images(rows["right"], confidence, rows["loss"].astype(np.float64))


def joined(parts: Sequence[Images]) -> Images:
    """The images of all parts of one set, one part after another."""
    return images_of(np.concatenate([part.rows() for part in parts]))


def put_recorded(state: State, source: Source, result: CleanResult, images: Images) -> None:
    """Keep what `evaluate_recorded` gives of a set."""
    state.put(source.key, asdict(result), images.rows())


def evaluate_recorded(
    model: nn.Module,
    sources: Sequence[Source],
    device: torch.device | str,
    state: State,
    amp: torch.dtype | None = None,
) -> dict[str, Recorded]:
    """As `apr_dali.eval.passes.evaluate_each`, with the images of each set."""
    recorders: dict[str, _Recorder] = {}

    def seen(source: Source) -> _Recorder:
        return recorders.setdefault(source.name, _Recorder())

    def put(source: Source, result: CleanResult) -> None:
        put_recorded(state, source, result, recorders.pop(source.name).finish())

    run_each(model, sources, device, state, amp, seen=seen, put=put)
    return {
        source.name: (CleanResult(**state.get(source.key)), images_of(state.rows(source.key))) for source in sources
    }


class _Recorder:
    """Takes the logits of each batch; on the device until the end, as a copy would wait for the network."""

    def __init__(self) -> None:
        self._columns = {name: Column() for name in _ROW.names or ()}

    def __call__(self, logits: Tensor, targets: Tensor) -> None:
        self._columns["confidence"].append(logits.softmax(1).amax(1))
        self._columns["right"].append(correct_within(logits, targets, 1))
        self._columns["loss"].append(F.cross_entropy(logits, targets, reduction="none"))

    def finish(self) -> Images:
        """The images of all processes, each of which has the next part of the set."""
        return images_of(_rows_of(gathered({name: column.array() for name, column in self._columns.items()})))
