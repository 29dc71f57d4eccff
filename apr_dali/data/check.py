"""Checking a whole data set: what is broken in it, what is left of each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from apr_dali.data.file_list import FileList, write_file_list
from apr_dali.data.folders import SPLITS, ImageSet, open_set
from apr_dali.data.scan import Bad, count_per_class, full_check
from apr_dali.errors import InputError


@dataclass(frozen=True)
class Checked:
    """What was found below `root`.

    splits: name and images of each of SPLITS that the root holds; one without a name if it holds class folders.
    bad: the images that cannot be decoded, in the order of the splits' files.
    """

    root: str
    splits: tuple[tuple[str, ImageSet], ...]
    bad: tuple[Bad, ...]

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
        rows.append(("total", [column.sum() for column in columns]))
        return _table(("class", *titles), rows, width)


def check_tree(directory: str | Path, processes: int) -> Checked:
    """Decode every image of a data set: of both splits where `directory` holds train/ or val/.

    Raises InputError for a folder that is no data set of image files, or splits that differ in their classes.
    """
    root = os.path.abspath(directory)
    if os.path.isfile(root):
        raise InputError(f"{root} is a file: give the folder that holds the images")
    names = [name for name in SPLITS if os.path.isdir(os.path.join(root, name))]
    splits: list[tuple[str, ImageSet]] = []
    for name in names or [""]:
        found = open_set(root, name or None, splits[0][1].classes if splits else None)
        if not isinstance(found, ImageSet):
            raise InputError(f"{root} holds tar files: check the images before they are packed")
        splits.append((name, found))
    bad = full_check([file for _, images in splits for file in images.files], processes)
    return Checked(root, tuple(splits), tuple(bad))


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
