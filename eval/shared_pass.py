"""One pass over labeled images for all evaluations that need no more than logits: accuracy, calibration, scores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from apr_dali.eval.clean import CleanResult, correct_within
from apr_dali.eval.ood import SCORES
from apr_dali.eval.outputs import Batch, Function, collect, is_right
from apr_dali.eval.passes import Source, counted, progress
from apr_dali.eval.recorded import Images, put_recorded
from apr_dali.eval.rows import Rows, rows_in
from apr_dali.eval.session import Session
from apr_dali.eval.state import State

_LEAST = torch.finfo(torch.float16).min
_TOP = ("top1", "top5")


@dataclass(frozen=True)
class Logits:
    """The logits of a set's images, on the disk, and their labels int64 (N,).

    They are less each image's greatest one, so that float16 rounds the likely classes least: by 2⁻¹¹ of the distance to
    the greatest. Of 1,000 classes no probability is off by more than 1e-3, and as a rule by less than 1e-4.
    """

    rows: Rows
    labels: NDArray[np.int64]

    def parts(self) -> Iterator[tuple[Tensor, Tensor, NDArray[np.int64]]]:
        """Logits float32 (n, classes), labels (n,) and the numbers of the images (n,), part by part."""
        start = 0
        for chunk in self.rows.chunks():
            numbers = np.arange(start, start + len(chunk))
            start += len(chunk)
            yield torch.from_numpy(chunk), torch.from_numpy(self.labels[numbers]), numbers


@dataclass(frozen=True)
class Pass:
    """What one pass found.

    values: of each image, `loss`, `top1`, `top5`, `right`, `confidence` and SCORES. logits: of each.
    """

    values: dict[str, NDArray[Any]]
    logits: Logits

    @property
    def clean(self) -> CleanResult:
        """Accuracy, as `apr_dali.eval.clean.evaluate` has it."""
        loss, top1, top5 = (float(self.values[name].astype(np.float64).mean()) for name in ("loss", *_TOP))
        return CleanResult(len(self.values["loss"]), loss, top1, top5)

    @property
    def images(self) -> Images:
        """What `apr_dali.eval.recorded` has of each."""
        confidence, loss = (self.values[name].astype(np.float64) for name in ("confidence", "loss"))
        return Images(self.values["top1"], confidence, loss)

    @property
    def scores(self) -> dict[str, list[float]]:
        """SCORES and `right`, as `apr_dali.eval.ood_scoring` keeps them."""
        return {name: self.values[name].tolist() for name in (*SCORES, "right")}


class SharedPass:
    """Passes of one network over sets of images, each made when it is first asked for."""

    def __init__(self, session: Session, stack: ExitStack) -> None:
        """The logits lie in the session's folder until `stack` ends."""
        self._session, self._stack = session, stack
        self._found: dict[str, Pass] = {}

    def of(self, source: Source) -> Pass:
        """The pass over a labeled set, whatever that is called; by all processes together."""
        if source.identified not in self._found:
            self._found[source.identified] = self._run(source)
        return self._found[source.identified]

    def _run(self, source: Source) -> Pass:
        session = self._session
        rows = self._stack.enter_context(rows_in(session.output, f"logits-{len(self._found)}", session.group))
        with progress([source]) as bar, source.open() as batches:
            bar.set_description(source.name)
            values = collect(
                session.model,
                counted(batches, bar),
                _FUNCTIONS,
                session.group.device,
                session.amp,
                rows={"the logits": (_below_greatest, rows)},
            )
        return Pass(values, Logits(rows, values.pop("labels").astype(np.int64)))


@contextmanager
def sharing(session: Session) -> Iterator[Session]:
    """The session, with its passes shared for as long as the block lasts."""
    with ExitStack() as stack:
        yield session if session.passes is not None else replace(session, passes=SharedPass(session, stack))


def put_shared(session: Session, source: Source, state: State) -> None:
    """Put what is recorded of a labeled set into `state`, where passes are shared and it is not there."""
    if session.passes is not None and source.key not in state:
        found = session.passes.of(source)
        put_recorded(state, source, found.clean, found.images)


def _below_greatest(batch: Batch) -> Tensor:
    return (batch.logits - batch.logits.amax(1, keepdim=True)).clamp(min=_LEAST)


def _within(k: int) -> Function:
    return lambda batch: correct_within(batch.logits, batch.targets, k)


def _of_logits(name: str) -> Function:
    return lambda batch: SCORES[name](batch.logits)


_FUNCTIONS: dict[str, Function] = {
    "loss": lambda batch: F.cross_entropy(batch.logits, batch.targets, reduction="none"),
    "top1": _within(1),
    "top5": _within(5),
    "right": is_right,
    "confidence": lambda batch: batch.logits.softmax(1).amax(1),
    "labels": lambda batch: batch.targets,
    **{name: _of_logits(name) for name in SCORES},
}
