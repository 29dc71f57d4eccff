"""Folders of class folders, and folders of validation images whose classes are told elsewhere, as Kaggle has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from apr_dali.data.folders import open_files
from apr_dali.data.listing import is_image, listing
from apr_dali.data.prepare.catalogue import Item, Source
from apr_dali.data.prepare.truth import Truth
from apr_dali.errors import InputError

NO_FLAT = "--val-labels has no effect: the validation images lie in class folders, or there are none"
"""What is said of labels where there are no validation images without classes."""


def is_flat(folder: Path) -> bool:
    """Whether images lie in the folder itself, in no class folders."""
    names, directories = listing(str(folder))
    return not directories and any(map(is_image, names))


def open_folders(told: str, splits: dict[str, Path], truth: Truth | None, official: bool) -> Source:
    """The images of class folders, or of a flat folder of validation images with their truth.

    splits: the folder of each split. Raises InputError as `open_set` does, and for a flat folder without truth.
    """
    classes: Sequence[str] | None = None
    found: dict[str, list[Item]] = {}
    for split, folder in splits.items():
        if is_flat(folder):
            if split != "val" or truth is None:
                raise InputError(
                    f"{folder} has images in no class folders: expected {folder}/CLASS/IMAGE"
                    + ", or --val-labels with the classes of ILSVRC2012's validation images" * (split == "val")
                )
            classes = truth.classes if classes is None else classes
            found[split] = _flat(folder, truth, classes)
            continue
        images = open_files(folder, "apr-dali prepare", classes=classes)
        classes = images.classes
        found[split] = [
            _item(label, file, os.path.join(os.path.abspath(folder), classes[label], ""))
            for label, file in zip(images.labels.tolist(), images.files, strict=True)
        ]
    assert classes is not None
    return Source(told, tuple(classes), found, official=official)


def _flat(folder: Path, truth: Truth, classes: Sequence[str]) -> list[Item]:
    names = list(filter(is_image, listing(str(folder))[0]))
    label = {name: number for number, name in enumerate(classes)}
    of = truth.of(names, str(folder))
    foreign = sorted(set(of) - set(label))
    if foreign:
        raise InputError(f"{truth.where} has classes that the training images lack: {', '.join(foreign[:5])}")
    start = os.path.join(os.path.abspath(folder), "")
    return [_item(label[wnid], start + name, start) for name, wnid in zip(names, of, strict=True)]


def _item(label: int, file: str, folder: str) -> Item:
    try:
        return Item(label, file[len(folder) :], file, 0, os.path.getsize(file))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): repair or remove it") from error
