"""Image lists as OpenOOD publishes them: `path label` a line, the paths below a folder of images.

    imagenet_1k/val/ILSVRC2012_val_00000001.JPEG 65
    ninco/amphiuma_means/000_3734.jpeg -1

Source: https://github.com/Jingkang50/OpenOOD, `benchmark_imglist`. The label is the number of the class, negative for
an image of none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.file_list import MAGIC
from apr_dali.data.folders import ImageSet
from apr_dali.data.sampling import evenly
from apr_dali.errors import InputError

ROOTS = ("images_largescale", "images_classic")
"""The folders of images beside OpenOOD's folder of lists."""
_LISTS = "benchmark_imglist"
_LABEL = re.compile(r"-?[0-9]{1,9}")


def is_image_list(path: str | Path) -> bool:
    """Whether `path` is a text file that is no file list of this package."""
    if Path(path).suffix != ".txt" or not os.path.isfile(path):
        return False
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        return file.readline(len(MAGIC) + 2).rstrip() != MAGIC


def read_image_list(
    path: str | Path, classes: Sequence[str] | None = None, root: str | Path | None = None, limit: int | None = None
) -> ImageSet:
    """The images of a list, in its order.

    Args:
        path: the list.
        classes: that its labels number; None where labels mean nothing, all images are of one class then.
        root: the folder that its paths are below; None to look for the first of them in the list's folder, and, where
            that lies in `benchmark_imglist`, in the folders of ROOTS beside it.
        limit: take so many images, evenly; None for all.

    Raises:
        InputError: for a line that is none of a list, a label that is none of `classes`, or an image that is not there.
    """
    lines = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    entries = [_entry(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise InputError(f"{path} lists no image: expected lines of a path and a label, such as `a/1.jpg 0`")
    labels = _labels(path, [label for _, label in entries], classes)
    chosen = np.arange(len(entries)) if limit is None else evenly(len(entries), limit)
    base = _root(path, entries[0][0], root)
    files = tuple(os.path.join(base, entries[index][0]) for index in chosen)
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise InputError(f"{path}: {len(missing)} of its {len(files)} images are not there, {missing[0]} the first")
    return ImageSet(files, labels[chosen], tuple(classes) if classes is not None else ("image",))


def _entry(path: str | Path, number: int, line: str) -> tuple[str, int]:
    name, _, label = line.strip().rpartition(" ")
    if not name or not _LABEL.fullmatch(label) or os.path.isabs(name):
        raise InputError(f"{path}, line {number}: expected a path below the images and a label, got {line!r}")
    return name.strip(), int(label)


def _labels(path: str | Path, found: list[int], classes: Sequence[str] | None) -> NDArray[np.int64]:
    labels = np.array(found, np.int64)
    if classes is None:
        return labels * 0
    if labels.min() < 0 or labels.max() >= len(classes):
        raise InputError(
            f"{path} has labels {labels.min()} to {labels.max()}: "
            f"expected those of the network's {len(classes)} classes, 0 to {len(classes) - 1}"
        )
    return labels


def _root(path: str | Path, first: str, root: str | Path | None) -> str:
    """The folder that the paths of a list are below, the absolute path."""
    if root is not None:
        if not os.path.isdir(root):
            raise InputError(f"--list-root {root} is no folder: expected the one that the paths in {path} are below")
        return os.path.abspath(root)
    place = Path(path).absolute()
    above = next((parent.parent for parent in place.parents if parent.name == _LISTS), None)
    looked = [place.parent, *([above / name for name in ROOTS] if above else [])]
    found = next((folder for folder in looked if (folder / first).is_file()), None)
    if found is None:
        places = ", ".join(map(str, looked))
        raise InputError(f"{path}: its first image {first} is in none of {places}; give --list-root the folder")
    return str(found)
