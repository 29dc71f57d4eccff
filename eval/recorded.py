"""Accuracy on sets of images with what is kept of every image: whether it was right, and the bins of its confidence."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apr_dali.eval.calibration import BINS, RMS_BIN_SIZE, reliability, rms_of
from apr_dali.eval.clean import CleanResult, correct_within
from apr_dali.eval.outputs import Column, gathered
from apr_dali.eval.passes import Source, run_each
from apr_dali.eval.state import State


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a set, in its order.

    right: bool (N,), whether the greatest logit was the target's. bins: float64 (B, 2), the sums of confidence and of
    right in each of B bins of confidence. rms: the RMS calibration error, 0..1; None with fewer images than its bins
    take, or where the set was run over in parts.
    """

    right: NDArray[np.bool_]
    bins: NDArray[np.float64]
    rms: float | None

    @property
    def ece(self) -> float:
        """The expected calibration error, 0..1."""
        return float(np.abs(self.bins[:, 0] - self.bins[:, 1]).sum() / len(self.right))

    def as_json(self) -> dict[str, Any]:
        """What `images_of` reads: a bit an image."""
        bits = base64.b64encode(np.packbits(self.right).tobytes()).decode()
        return {"count": len(self.right), "right": bits, "bins": self.bins.tolist(), "rms": self.rms}


def images_of(kept: dict[str, Any]) -> Images:
    """The images that `as_json` was of."""
    bits = np.frombuffer(base64.b64decode(kept["right"]), np.uint8)
    return Images(np.unpackbits(bits, count=kept["count"]).astype(bool), np.array(kept["bins"]), kept["rms"])


def joined(parts: Sequence[Images]) -> Images:
    """The images of all parts of one set."""
    if len(parts) == 1:
        return parts[0]
    right = np.concatenate([part.right for part in parts])
    return Images(right, np.sum([part.bins for part in parts], 0), None)


def evaluate_recorded(
    model: nn.Module,
    sources: Sequence[Source],
    device: torch.device | str,
    state: State,
    amp: torch.dtype | None = None,
) -> dict[str, tuple[CleanResult, Images]]:
    """As `apr_dali.eval.passes.evaluate_each`, with the images of each set."""
    recorders: dict[str, _Recorder] = {}

    def seen(source: Source) -> _Recorder:
        return recorders.setdefault(source.name, _Recorder())

    def record(source: Source, result: CleanResult) -> dict[str, Any]:
        return {**asdict(result), "images_seen": recorders.pop(source.name).finish().as_json()}

    run_each(model, sources, device, state, amp, seen=seen, record=record)
    found = {}
    for source in sources:
        kept = dict(state.get(source.key))
        images = images_of(kept.pop("images_seen"))
        found[source.name] = CleanResult(**kept), images
    return found


class _Recorder:
    """Takes the logits of each batch; on the device until the end, as a copy would wait for the network."""

    def __init__(self) -> None:
        self._columns = {"confidence": Column(), "right": Column()}

    def __call__(self, logits: Tensor, targets: Tensor) -> None:
        self._columns["confidence"].append(logits.softmax(1).amax(1))
        self._columns["right"].append(correct_within(logits, targets, 1))

    def finish(self) -> Images:
        """The images of all processes, each of which has the next part of the set."""
        found = gathered({name: column.array() for name, column in self._columns.items()})
        confidence, right = found["confidence"], found["right"].astype(bool)
        # Sums of float32 softmax can exceed 1 in the last digit.
        sure = np.minimum(confidence.astype(np.float64), 1)
        diagram = reliability(sure, right, BINS)
        means = np.nan_to_num(np.stack([diagram.confidence, diagram.accuracy], 1))
        many = len(right) >= RMS_BIN_SIZE
        return Images(right, means * diagram.count[:, None], rms_of(sure, right) if many else None)
