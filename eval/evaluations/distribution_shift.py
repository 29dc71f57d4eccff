"""Accuracy on other photographs and drawings of ImageNet's classes, or of 200 of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr_dali.data.arrays import is_small_set
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError, check_choice
from apr_dali.eval.bootstrap import Interval, share_interval
from apr_dali.eval.class_lists import IMAGENET_A, IMAGENET_R
from apr_dali.eval.class_names import is_imagenet
from apr_dali.eval.datasets import numbered
from apr_dali.eval.page import error_bounds, percent
from apr_dali.eval.passes import ClassSlice, evaluate_each, together
from apr_dali.eval.recorded import KEEPS, evaluate_recorded
from apr_dali.eval.result import Result
from apr_dali.eval.session import Options, Session, Subject, session_of
from apr_dali.runtime.distributed import on_main

if TYPE_CHECKING:
    from typing_extensions import Unpack

IMAGES = {"imagenet-a": 7500, "imagenet-r": 30_000, "imagenet-sketch": 50_889, "imagenet-v2": 10_000}
"""How many each published set has."""
SHIFTS: dict[str, tuple[str, ...] | None] = {
    "imagenet-a": IMAGENET_A,
    "imagenet-r": IMAGENET_R,
    "imagenet-sketch": None,
    "imagenet-v2": None,
}
"""The class folders of each; None: the network's own, all of them."""


@dataclass(frozen=True)
class Shift(Result):
    """Accuracy on the folder `data` of one of SHIFTS, which gives the evaluation its name.

    set: 16 hex digits of what the images are. name: what they are, in words. classes, all_classes: how many the set and
    the network have. images: how many. loss: mean cross-entropy. top1, top5: shares, 0..1, among the classes of the
    set; top1_of_all: among all of the network's. labels: what was assumed of folders without names, or None.
    loss_interval: of the loss, see `apr_dali.eval.bootstrap`.
    """

    shift: str
    data: str
    set: str
    name: str
    classes: int
    images: int
    loss: float
    top1: float
    top5: float
    top1_of_all: float
    all_classes: int
    labels: str | None = None
    loss_interval: Interval | None = None

    @property
    def evaluation(self) -> str:
        return self.shift

    def as_json(self) -> dict[str, Any]:
        keys = ("data", "set", "name", "classes", "images", "loss", "top1", "top5", "top1_of_all", "all_classes")
        labels = {} if self.labels is None else {"labels": self.labels}
        intervals = {key: share_interval(getattr(self, key), self.images) for key in ("top1", "top5", "top1_of_all")}
        if self.loss_interval is not None:
            intervals["loss"] = self.loss_interval
        return {**{key: getattr(self, key) for key in keys}, "intervals": intervals, **labels}

    def text(self) -> str:
        shares = f"top-1 {self.top1:.2%}, top-5 {self.top5:.2%} on {self.images} images of {self.classes} classes"
        others = self.classes < self.all_classes
        of_all = f"; top-1 among all {self.all_classes:,} classes {self.top1_of_all:.2%}" if others else ""
        return f"{self.name}: {shares}{of_all}" + ("" if self.labels is None else f"\n{self.labels}")


def evaluate_shift(model: Subject, data: str | Path, *, set: str, **options: Unpack[Options]) -> Shift:
    """Top-1 and top-5 on other images of ImageNet's classes.

    The network's logits are cut down to the classes of the set first, as its authors do.

    Args:
        model, options: as for `evaluate_clean`.
        data: folder of class folders.
        set: which one `data` holds, of SHIFTS.

    Raises:
        InputError: for folders that are not those of the set, or a network without its classes.
    """
    check_choice("set", set, tuple(SHIFTS))
    if is_small_set(data):
        raise InputError(f"{data} has none of ImageNet's classes: give the folder of {set}")
    with session_of(model, options) as session:
        return _measure(session, str(data), set)


def _measure(session: Session, data: str, name: str) -> Shift:
    feeding, network, device = session.feeding, session.network, session.group.device
    names = on_main(session.group, lambda: open_set(data, components=feeding.components, mixed=feeding.mixed).classes)
    classes = _meant(session, name, names)
    indices = network.indices(classes)
    model = ClassSlice(session.model, indices).to(device)
    source = feeding.folder(name, data, names)
    session.check(source, model, len(names))
    state = session.state(name, classes=classes, keeps=KEEPS)
    found, images = evaluate_recorded(model, [source], device, state, session.amp)[name]
    top1_of_all = found.top1
    if others := sorted({*range(len(network.classes))} - {*indices}):
        # The classes of the set first: its labels stay what they are.
        every = ClassSlice(session.model, [*indices, *others]).to(device)
        of_all = replace(source, name=f"{name} of all classes")
        top1_of_all = evaluate_each(every, [of_all], device, state, session.amp)[of_all.name].top1
    whole = found.images == IMAGES[name] and is_imagenet(network.classes)
    title = name if whole else f"own set {os.path.basename(os.path.abspath(data))}, in the form of {name}"
    assumed = numbered(network.classes, "its folders have no names: the folder") if names != classes else None
    return Shift(
        name,
        data,
        together([source]),
        title,
        len(names),
        **asdict(found),
        top1_of_all=top1_of_all,
        all_classes=len(network.classes),
        labels=assumed,
        loss_interval=images.loss_interval,
    ).finished(session, {}, state)


def _meant(session: Session, name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The network's names for the class folders `names`; InputError if they are not those of the set."""
    expected = SHIFTS[name] or session.network.classes
    if name == "imagenet-v2" and all(n.isdecimal() for n in names):
        # Its folders are called by the number of the class.
        beyond = [n for n in names if int(n) >= len(expected)]
        if beyond:
            raise InputError(f"{name}: the class folder {beyond[0]} is beyond the network's {len(expected)} classes")
        return tuple(expected[int(n)] for n in names)
    missing, more = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
    if missing or more:
        raise InputError(
            f"{name} must have {len(expected)} class folders, got {len(names)}"
            + (f"; missing: {', '.join(missing[:5])}" if missing else "")
            + (f"; not among them: {', '.join(more[:5])}" if more else "")
        )
    return names


# ---- on the page of a benchmark --------------------------------------------------------------------------------------


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The numbers that matter, with their units."""
    return {_label(result): percent(1 - result["top1"])}


def bounds(result: Mapping[str, Any]) -> dict[str, str]:
    """The intervals of numbers of `summary`, by the same names."""
    return error_bounds(_label(result), result)


def _label(result: Mapping[str, Any]) -> str:
    return f"{result['name']}: error, {result['images']:,} images of {result['classes']:,} classes"
