"""`apr-dali eval shift`: accuracy on other photographs and drawings of ImageNet's classes, or of 200 of them."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from typing import Any

from apr_dali.data.arrays import is_small_set
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError
from apr_dali.eval.class_lists import IMAGENET_A, IMAGENET_R
from apr_dali.eval.class_names import is_imagenet
from apr_dali.eval.datasets import numbered
from apr_dali.eval.passes import ClassSlice, evaluate_each, together
from apr_dali.eval.session import Session
from apr_dali.runtime.distributed import on_main

IMAGES = {"imagenet-a": 7500, "imagenet-r": 30_000, "imagenet-sketch": 50_889, "imagenet-v2": 10_000}
"""How many each published set has."""
SHIFTS: dict[str, tuple[str, ...] | None] = {
    "imagenet-a": IMAGENET_A,
    "imagenet-r": IMAGENET_R,
    "imagenet-sketch": None,
    "imagenet-v2": None,
}
"""The class folders of each; None: the network's own, all of them."""


def shift(session: Session, name: str, data: str) -> tuple[dict[str, Any], str]:
    """Top-1 and top-5 on the folder `data` of the set `name`, one of SHIFTS: the record and its text.

    The network's logits are cut down to the classes of the set first, as its authors do; where it has more classes,
    `top1_of_all` is among all of them.
    """
    if is_small_set(data):
        raise InputError(f"{data} has none of ImageNet's classes: give the folder of {name}")
    feeding = session.feeding
    names = on_main(session.group, lambda: open_set(data, components=feeding.components, mixed=feeding.mixed).classes)
    classes = _meant(session, name, names)
    indices = session.network.indices(classes)
    model = ClassSlice(session.model, indices).to(session.group.device)
    source = session.feeding.folder(name, data, names)
    session.check(source, model, len(names))
    state = session.state(name, classes=classes)
    found = evaluate_each(model, [source], session.group.device, state, session.amp)[name]
    others = sorted(set(range(len(session.network.classes))) - set(indices))
    top1_of_all = found.top1
    if others:
        # The classes of the set first: its labels stay what they are.
        every = ClassSlice(session.model, [*indices, *others]).to(session.group.device)
        of_all = replace(source, name=f"{name} of all classes")
        top1_of_all = evaluate_each(every, [of_all], session.group.device, state, session.amp)[of_all.name].top1
    whole = found.images == IMAGES[name] and is_imagenet(session.network.classes)
    title = name if whole else f"own set {os.path.basename(os.path.abspath(data))}, in the form of {name}"
    result = {
        "data": data,
        "set": together([source]),
        "name": title,
        "classes": len(names),
        **asdict(found),
        "top1_of_all": top1_of_all,
    }
    result["all_classes"] = len(session.network.classes)
    text = f"{title}: top-1 {found.top1:.2%}, top-5 {found.top5:.2%} on {found.images} images of {len(names)} classes"
    if others:
        text += f"; top-1 among all {len(session.network.classes):,} classes {top1_of_all:.2%}"
    if names != classes:
        result["labels"] = numbered(session.network.classes, "its folders have no names: the folder")
        text += f"\n{result['labels']}"
    return session.finish(name, result, {}, state), text


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
