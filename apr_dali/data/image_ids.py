"""Lists of images as RobustBench has one of ImageNet's: `<class>/<file>` a line, below any folder of class folders.

    n01751748/ILSVRC2012_val_00000005.JPEG

That one is built in, sorted, as ROBUSTBENCH: 5,000 of the validation images, on which its leaderboard measures
ImageNet-C and ImageNet-3DCC. Source: https://github.com/RobustBench/robustbench,
`robustbench/helper_files/imagenet_test_image_ids.txt` (in its package 1.1.1, too).
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apr_dali.data.folders import ImageSet
from apr_dali.errors import InputError

ROBUSTBENCH = "robustbench"
_NUMBERS = Path(__file__).with_name("robustbench_imagenet.txt.gz")
"""A class and the numbers of its images a line."""


@dataclass(frozen=True)
class ImageIds:
    """What such a list says. entries: its lines. path: of the list."""

    path: str
    entries: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def known(self) -> str:
        """16 hex digits of the entries."""
        return hashlib.sha256("\n".join(self.entries).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def below(self, folder: str | Path, classes: Sequence[str]) -> ImageSet:
        """The images of the list below a folder of class folders, in its order, with the labels of `classes`.

        Raises InputError for a class that is none of them, or an image that is not there.
        """
        number = {name: index for index, name in enumerate(classes)}
        names = [entry.partition("/")[0] for entry in self.entries]
        unknown = sorted(set(names) - set(number))
        if unknown:
            raise InputError(f"{self.path} has classes that the network lacks: {', '.join(unknown[:5])}")
        root = os.path.abspath(folder)
        files = tuple(os.path.join(root, entry) for entry in self.entries)
        missing = [file for file in files if not os.path.isfile(file)]
        if missing:
            raise InputError(
                f"{self.path}: {len(missing)} of its {len(files)} images are not in {root}, {missing[0]} the first"
            )
        return ImageSet(files, np.array([number[name] for name in names], np.int64), tuple(classes))


def read_image_ids(path: str | Path) -> ImageIds:
    """Read a list; the word ROBUSTBENCH, where there is no file of that name, means RobustBench's.

    Raises InputError for a line that is no `<class>/<file>`, or an image that is listed twice.
    """
    if str(path) == ROBUSTBENCH and not os.path.exists(path):
        return ImageIds(ROBUSTBENCH, _robustbench())
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; expected a text file of lines <class>/<file>") from error
    entries = tuple(line.strip() for line in text.split("\n") if line.strip())
    for number, entry in enumerate(entries, 1):
        parts = entry.split("/")
        if len(parts) < 2 or not all(parts) or ".." in parts or " " in parts[-1]:
            raise InputError(f"{path}, image {number}: expected <class>/<file>, got {entry!r}")
    if not entries:
        raise InputError(f"{path} lists no image: expected lines of <class>/<file>")
    if len(set(entries)) < len(entries):
        twice = next(entry for number, entry in enumerate(entries) if entry in entries[:number])
        raise InputError(f"{path} lists {twice} twice")
    return ImageIds(str(path), entries)


def _robustbench() -> tuple[str, ...]:
    lines = gzip.decompress(_NUMBERS.read_bytes()).decode().splitlines()
    rows = [(name, numbers.split()) for name, _, numbers in (line.partition(" ") for line in lines)]
    return tuple(f"{name}/ILSVRC2012_val_{int(number):08}.JPEG" for name, numbers in rows for number in numbers)
