"""`apr-dali eval shift`: accuracy on other photographs and drawings of ImageNet's classes, or of 200 of them."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from apr_dali.commands.session import Session
from apr_dali.commands.sources import numbered
from apr_dali.data.folders import open_set
from apr_dali.errors import InputError
from apr_dali.eval.class_lists import IMAGENET_A, IMAGENET_R
from apr_dali.eval.passes import ClassSlice, evaluate_each
from apr_dali.training.distributed import on_main

SHIFTS: dict[str, tuple[str, ...] | None] = {
    "imagenet-a": IMAGENET_A,
    "imagenet-r": IMAGENET_R,
    "imagenet-sketch": None,
    "imagenet-v2": None,
}
"""The class folders of each; None: the network's own, all of them."""


def shift(session: Session, name: str, data: str) -> tuple[dict[str, Any], str]:
    """Top-1 and top-5 on the folder `data` of the set `name`, one of SHIFTS: the record and its text.

    The network's logits are cut down to the classes of the set first, as its authors do.
    """
    names = on_main(session.group, lambda: open_set(data).classes)
    classes = _meant(session, name, names)
    model = ClassSlice(session.model, session.network.indices(classes)).to(session.group.device)
    source = session.feeding.folder(name, data, names)
    session.check(source, model, len(names))
    state = session.state(name, data=os.path.abspath(data))
    found = evaluate_each(model, [source], session.group.device, state, session.amp)[name]
    result = {"data": data, "classes": len(names), **asdict(found)}
    if names != classes:
        result["labels"] = numbered(session.network.classes, "its folders have no names: the folder")
    text = f"{name}: top-1 {found.top1:.2%}, top-5 {found.top5:.2%} on {found.images} images of {len(names)} classes"
    if "labels" in result:
        text += f"\n{result['labels']}"
    return session.finish(name, result, {}), text


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
