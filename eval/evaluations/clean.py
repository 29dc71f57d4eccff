"""Accuracy of a network on the images it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr_dali.eval.bootstrap import Interval, share_interval
from apr_dali.eval.page import Section, Table, error_bounds, percent, with_interval
from apr_dali.eval.passes import together
from apr_dali.eval.recorded import KEEPS, evaluate_recorded
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Subject, session_of
from apr_dali.eval.shared_pass import put_shared

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Clean(Result):
    """Accuracy on the images of `data`.

    set: 16 hex digits of what the images are. images: how many. loss: mean cross-entropy. top1, top5: shares, 0..1.
    loss_interval: of the loss, see `apr_dali.eval.bootstrap`.
    """

    data: str
    set: str
    images: int
    loss: float
    top1: float
    top5: float
    loss_interval: Interval | None = None

    evaluation = "clean"

    def as_json(self) -> dict[str, Any]:
        found = {key: getattr(self, key) for key in ("data", "set", "images", "loss", "top1", "top5")}
        intervals = {key: share_interval(found[key], self.images) for key in ("top1", "top5")}
        return {**found, "intervals": {**intervals, **({"loss": self.loss_interval} if self.loss_interval else {})}}

    def text(self) -> str:
        return f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%}, loss {self.loss:.4f} on {self.images} images"


def evaluate_clean(model: Subject, data: str | Path, **options: Unpack[Options]) -> Clean:
    """Top-1 and top-5 on a folder of class folders, tars, or for a network of 32×32 images on a set of such.

    Args:
        model: a module, a checkpoint, a name, or an open session.
        options: see `apr_dali.eval.session.Options`.

    Raises:
        InputError: for images or a network that do not fit.
    """
    with session_of(model, options) as session:
        source = session.labeled(str(data))
        session.check(source)
        state = session.state("clean", keeps=KEEPS)
        put_shared(session, source, state)
        recorded = evaluate_recorded(session.model, [source], session.group.device, state, session.amp)
        found, images = recorded["clean"]
        result = Clean(str(data), together([source]), **asdict(found), loss_interval=images.loss_interval)
        return result.finished(session, {}, state)


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that matter, with their units."""
    return {_label(result): percent(1 - result["top1"])}


def bounds(result: Mapping[str, Any]) -> dict[str, str]:
    """The intervals of numbers of `summary`, by the same names."""
    return error_bounds(_label(result), result)


def _label(result: Mapping[str, Any]) -> str:
    return f"clean error, {result['images']:,} images"


def section(result: Mapping[str, Any]) -> Section:
    """The part of the page."""
    ends = result.get("intervals", {})
    rows = (
        ("top-1", with_interval(percent(result["top1"]), ends.get("top1"), 100)),
        ("top-5", with_interval(percent(result["top5"]), ends.get("top5"), 100)),
        ("mean cross-entropy (NLL)", with_interval(f"{result['loss']:.4f}", ends.get("loss"), 1, 4)),
        ("images", f"{result['images']:,}"),
        ("data", str(result["data"])),
    )
    return Section("Clean images", tables=(Table(("measure", "value"), rows, words=True),))
