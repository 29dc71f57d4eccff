"""Checking a whole data set: what is broken in it, what is left of each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apr_dali.data.file_list import FileList, write_file_list
from apr_dali.data.folders import SPLITS, ImageSet, TarSet, check_components, open_set
from apr_dali.data.scan import Bad, count_per_class, full_check
from apr_dali.data.tars import Components, Part
from apr_dali.errors import InputError

_DEFAULT = Components()


@dataclass(frozen=True)
class Checked:
    """What was found below `root`.

    splits: name and images of each of SPLITS that the root holds; one without a name if it holds class folders or tars.
        The "files" of tars are the names of the samples that have a label.
    bad: the images that cannot be decoded, in the order of the splits' files; before them the samples of tars that
        lack an image or a label.
    unlabelled: how many such samples each split has.
    """

    root: str
    splits: tuple[tuple[str, ImageSet], ...]
    bad: tuple[Bad, ...]
    unlabelled: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits[0][1].classes

    def table(self, width: int) -> str:
        """The good and the bad images of each class, one a line of at most `width` columns."""
        paths = [path for path, _ in self.bad]
        columns, titles = [], []
        for name, images in self.splits:
            good = count_per_class(images, paths)
            columns += [good, count_per_class(images) - good]
            titles += [name or "images", "bad"]
        rows = [(name, counts) for name, *counts in zip(self.classes, *columns, strict=True)]
        lacking = [count for number in self.unlabelled for count in (0, number)]
        if any(lacking):
            rows.append(("no image or label", lacking))
        rows.append(("total", [column.sum() + more for column, more in zip(columns, lacking, strict=True)]))
        return _table(("class", *titles), rows, width)


def check_tree(
    directory: str | Path, processes: int, components: Components = _DEFAULT, for_list: bool = False
) -> Checked:
    """Decode every image of a data set: of both splits where `directory` holds train/ or val/.

    components: which members of a tar's samples are image and label. for_list: refuse tars, which a file list cannot
    name the samples of.

    Raises InputError for a folder that is no data set, splits that differ in their classes, and as a trainer would.
    """
    root = os.path.abspath(directory)
    if os.path.isfile(root):
        raise InputError(f"{root} is a file: give the folder that holds the images")
    names = [name for name in SPLITS if os.path.isdir(os.path.join(root, name))]
    opened: list[ImageSet | TarSet] = []
    for name in names or [""]:
        classes = opened[0].classes if opened else None
        opened.append(open_set(root, name or None, classes, components=components, mixed=True))
        if for_list and isinstance(opened[-1], TarSet):
            raise InputError(
                f"{root} holds tar files, whose samples a file list cannot name: leave --write-file-list out, and "
                "train with --on-error skip"
            )
    check_components(components, any(isinstance(images, TarSet) for images in opened), [root])
    labelled = [_labelled(images) for images in opened]
    bad = [fault for _, faults in labelled for fault in faults]
    files: list[str | Part] = []
    for images in opened:
        files += images.files if isinstance(images, ImageSet) else images.parts()
    return Checked(
        root,
        tuple((name, images) for name, (images, _) in zip(names or [""], labelled, strict=True)),
        (*bad, *full_check(files, processes)),
        tuple(len(faults) for _, faults in labelled),
    )


def _labelled(images: ImageSet | TarSet) -> tuple[ImageSet, list[Bad]]:
    """The images that have a label, and what is wrong with the others."""
    if isinstance(images, ImageSet):
        return images, []
    bad, found = images.faults(), []
    for name, label in images.read_labels():
        if isinstance(label, int):
            found.append((name, label))
        else:
            bad.append((name, label))
    labels = np.array([label for _, label in found], np.int64)
    return ImageSet(tuple(name for name, _ in found), labels, images.classes), bad


def write_good(path: str | Path, checked: Checked) -> int:
    """Write a file list of the images that can be decoded, and return their number."""
    bad = {path for path, _ in checked.bad}
    start = len(os.path.join(checked.root, ""))
    entries = tuple(
        file[start:].replace(os.sep, "/") for _, images in checked.splits for file in images.files if file not in bad
    )
    names = tuple(name for name, _ in checked.splits if name)
    write_file_list(path, FileList(checked.root, checked.classes, names, entries))
    return len(entries)


def _table(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]], width: int) -> str:
    column = max(8, *(len(str(value)) + 2 for _, values in rows for value in values))
    longest = max(len(name) for name, _ in rows)
    first = max(len(titles[0]), min(longest, width - column * (len(titles) - 1)))
    lines = [titles[0].ljust(first) + "".join(title.rjust(column) for title in titles[1:])]
    for name, values in rows:
        short = name if len(name) <= first else name[: first - 1] + "…"
        lines.append(short.ljust(first) + "".join(str(value).rjust(column) for value in values))
    return "\n".join(lines)
