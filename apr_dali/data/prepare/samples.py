"""WebDataset's tars as a source: samples of an image and a label."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from apr_dali.data.class_names import read_classes
from apr_dali.data.prepare.archives import Map, members
from apr_dali.data.prepare.catalogue import MOST_CLASSES, Item, Source, beyond, count_labels, names_by_wnid
from apr_dali.data.tars import Components, choose, parse_label
from apr_dali.errors import InputError


def open_samples(splits: dict[str, list[Path]], components: Components, mapped: Map = map) -> Source:
    """The samples of the tars of each split, whose classes are those of the classes.txt beside or above them.

    Without one they are called by the WordNet numbers in the samples' keys, or by their own numbers. Samples without
    an image or a label are left out. Raises InputError for tars that are damaged, or hold no samples.
    """
    classes = _classes(next(iter(splits.values()))[0].parent)
    found: dict[str, list[Item]] = {}
    left_out: list[tuple[str, str]] = []
    scan: Any = partial(_scan, components=components, classes=len(classes or ()) or MOST_CLASSES)
    for split, tars in splits.items():
        found[split] = []
        for images, faults in mapped(scan, list(map(str, tars))):
            found[split] += images
            left_out += faults
        if not found[split]:
            reason = f": {left_out[0][0]} {left_out[0][1]}" if left_out else ""
            raise InputError(
                f"{tars[0].parent}: no sample of its tars has an image and a label{reason}; name the components "
                "(--tar-image, --tar-label), or unpack tars of a class each into folders of their names"
            )
    every = [item for items in found.values() for item in items]
    count = len(classes or ()) or count_labels(found)
    wrong = beyond(found, count)
    if wrong is not None:
        raise InputError(
            f"{wrong.store}: {wrong.name} has the label {wrong.label}, and the training images 0..{count - 1}: put "
            "a classes.txt beside the tars, or take those of one set"
        )
    named = classes or names_by_wnid(((item.label, item.name) for item in every), count)
    return Source("WebDataset's tars", named or tuple(map(str, range(count))), found, left_out=tuple(left_out))


def _classes(folder: Path) -> tuple[str, ...] | None:
    paths: Iterable[Path] = (folder / "classes.txt", folder.parent / "classes.txt")
    return next((read_classes(path) for path in paths if path.is_file()), None)


def _scan(tar: str, components: Components, classes: int) -> tuple[list[Item], list[tuple[str, str]]]:
    found = members(tar)
    name_at = {member.offset: member.name for member in found}
    samples = choose(tar, found, components)
    items = []
    left_out = [(f"{tar}/{samples.keys[number]}", why) for number, why in samples.faults.items()]
    with open(tar, "rb") as file:
        for number, key in enumerate(samples.keys):
            if number in samples.faults:
                continue
            (at, size), (label_at, label_size) = samples.images[number].tolist(), samples.labels[number].tolist()
            file.seek(label_at)
            try:
                label = parse_label(file.read(label_size), classes, components.field)
            except ValueError as error:
                left_out.append((f"{tar}/{key}", str(error)))
                continue
            items.append(Item(label, key + os.path.splitext(name_at[at])[1], tar, at, size))
    return items, left_out
