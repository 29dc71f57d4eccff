"""ImageNet-C's folders and CIFAR-C's arrays: what is there, and whether it is whole."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apr_dali.corruptions import C_BAR, find
from apr_dali.data.folders import holds_tars, open_set
from apr_dali.data.listing import images_below, listing
from apr_dali.data.tars import DEFAULT, Components, Part, TarSet, opened
from apr_dali.errors import InputError

SEVERITIES = 5
_CLEAN = {"original", "clean", "natural"}  # what copies of CIFAR-C call the images before any corruption
MARKER = ".apr_dali_make_c.json"
"""In what `apr-dali make-c` has written."""


@dataclass(frozen=True)
class CorruptionFolders:
    """An ImageNet-C-like tree.

    folders: for each corruption the five folders of class folders, severity 1 to 5.
    generated: whether `apr-dali make-c` wrote it.
    """

    folders: dict[str, tuple[str, ...]]
    generated: bool


def find_corruption_folders(
    root: str | Path, classes: Sequence[str], image_size: int, components: Components = DEFAULT
) -> CorruptionFolders:
    """Every folder of `root` that holds folders named 1 to 5, checked down to the class folders; decodes no image.

    A corruption of ImageNet-C-bar may have those of its authors' script instead, named by the strength: 2.35, 3.20, …;
    any may have LAION-C's, intensity_level_1 to 5.

    Args:
        root: with `<corruption>/<severity>/<class>/<image>`, or `<corruption>/<severity>/<name>.tar`.
        classes: names that each severity must have, no more and no less.
        image_size: pixels a side that the images must have at least; one of each severity is looked at.
        components: which members of tars are images and labels.

    Raises:
        InputError: if there is no such folder, or for the first one that is not whole.
    """
    root = os.path.abspath(root)
    if not os.path.isdir(root):
        raise InputError(f"{root} is not there: expected a folder with <corruption>/<1-5>/<class>/<image>")
    generated = _is_generated(root)
    folders = {}
    for name in listing(root)[1]:
        held = set(listing(os.path.join(root, name))[1])
        numbers = next((numbers for numbers in _severity_names(name) if held & set(numbers)), None)
        if numbers is None:
            continue
        missing = [number for number in numbers if number not in held]
        if missing:
            raise InputError(
                f"{root}/{name} lacks the severity {', '.join(missing)}: expected the folders {', '.join(numbers)}"
            )
        folders[name] = tuple(os.path.join(root, name, number) for number in numbers)
    if not folders:
        raise InputError(
            f"{root} holds no corruption: expected <corruption>/<1-5>/<class>/<image>, "
            f"got {', '.join(listing(root)[1][:5]) or 'nothing'}"
        )
    for severities in folders.values():
        for folder in severities:
            _check_size(_first_image(folder, classes, components), image_size)
    return CorruptionFolders(folders, generated)


def _severity_names(corruption: str) -> Iterator[list[str]]:
    """What the folders of the severities 1 to 5 may be called: one way or another."""
    yield [str(number) for number in range(1, SEVERITIES + 1)]
    yield [f"intensity_level_{number}" for number in range(1, SEVERITIES + 1)]
    if corruption in C_BAR:
        yield [f"{find(corruption, number)[1]:.2f}" for number in range(1, SEVERITIES + 1)]


def holds_corrupted_tars(root: str | Path) -> bool:
    """Whether it is a tree whose images lie in tars; looks at severity 1 alone."""
    return any(map(holds_tars, Path(root).glob("*/1")))


def _is_generated(root: str) -> bool:
    marker = os.path.join(root, MARKER)
    if not os.path.isfile(marker):
        return False
    if not json.loads(Path(marker).read_text(encoding="utf-8"))["finished"]:
        raise InputError(f"{root} is not finished: run the same `apr-dali make-c` again, it goes on there")
    return True


@dataclass(frozen=True)
class CorruptionArrays:
    """CIFAR-10-C or CIFAR-100-C.

    images: for each corruption uint8 (5·N, 32, 32, 3), 0..255, memory-mapped, severity 1 first.
    labels: int64 (N,), the same for each severity.
    generated: whether `apr-dali make-c` wrote it.
    """

    images: dict[str, NDArray[np.uint8]]
    labels: NDArray[np.int64]
    generated: bool

    def severity(self, name: str, number: int) -> NDArray[np.uint8]:
        """The images of one corruption and severity, 1 to 5: uint8 (N, 32, 32, 3), memory-mapped."""
        count = len(self.labels)
        return self.images[name][(number - 1) * count : number * count]


def open_corruption_arrays(root: str | Path, classes: int) -> CorruptionArrays:
    """The arrays `<corruption>.npy` and `labels.npy` below `root`; the images stay on the disk until they are read.

    labels.npy has the labels of all five severities, as published, or of one. The clean images that some copies have
    beside them are left out with a warning.

    Raises:
        InputError: for an array of another shape or type, labels that do not go with it or are not all of 0..classes-1,
        or for what `apr-dali make-c` has not finished.
    """
    root = Path(root)
    label_file = root / "labels.npy"
    if not label_file.is_file():
        raise InputError(f"{root} has no labels.npy: expected CIFAR-C's <corruption>.npy and labels.npy")
    generated = _is_generated(str(root))
    images = {path.stem: _load(path) for path in sorted(root.glob("*.npy")) if path != label_file}
    for name in sorted(_CLEAN & set(images)):
        warnings.warn(f"left out {root / name}.npy: clean images are no corruption", stacklevel=2)
        del images[name]
    if not images:
        raise InputError(f"{root} has labels.npy but no <corruption>.npy")
    labels = _one_severity(_labels(label_file, classes), label_file, {array.shape[:1] for array in images.values()})
    expected = (SEVERITIES * len(labels), 32, 32, 3)
    for name, array in images.items():
        if array.shape != expected or array.dtype != np.uint8:
            raise InputError(
                f"{root / name}.npy: expected uint8 {expected}, as many as labels, got {_described(array)}; "
                "where it is no corruption, put it elsewhere"
            )
    return CorruptionArrays(images, labels, generated)


def _labels(file: Path, classes: int) -> NDArray[np.int64]:
    labels = _load(file)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        raise InputError(f"{file}: expected integers, five severities of N each, got {_described(labels)}")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"{file}: expected labels in 0..{classes - 1}, got {labels.min()}..{labels.max()}")
    # Numbers alone do not say of which classes they are; those of a set of fewer would all seem to fit.
    if (held := len(np.unique(labels))) < classes:
        raise InputError(
            f"{file} has labels of {held} classes, {labels.min()}..{labels.max()}, the network has {classes}: "
            "give the set of the network's own classes"
        )
    return labels.astype(np.int64)


def _one_severity(labels: NDArray[np.int64], file: Path, counts: set[tuple[int, ...]]) -> NDArray[np.int64]:
    """The labels of one severity; `labels` are those of all five, or of one where all arrays' `counts` say so."""
    if counts == {(SEVERITIES * len(labels),)}:
        return labels
    if len(labels) % SEVERITIES:
        raise InputError(f"{file}: expected integers, five severities of N each, got {_described(labels)}")
    blocks = labels.reshape(SEVERITIES, -1)
    if (blocks != blocks[0]).any():
        raise InputError(f"{file}: the five severities must have the same labels")
    return blocks[0]


def _load(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} is not a whole .npy file: {error}") from error


def _described(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"


def _first_image(folder: str, classes: Sequence[str], components: Components) -> str | Part:
    """An image of a corruption and severity, whose classes are checked."""
    if holds_tars(folder):
        tars = open_set(folder, classes=classes, components=components)
        assert isinstance(tars, TarSet)
        return next(tars.parts())
    held, wanted = set(listing(folder)[1]), set(classes)
    for kind, names in (("lacks", wanted - held), ("has more than the network's classes:", held - wanted)):
        if names:
            raise InputError(
                f"{folder} {kind} {', '.join(sorted(names)[:5])}{' …' if len(names) > 5 else ''}: "
                f"expected the {len(wanted)} class folders of the network, got {len(held)}"
            )
    first = next(iter(images_below(os.path.join(folder, sorted(held)[0]))), None)
    if first is None:
        raise InputError(f"{folder}/{sorted(held)[0]} holds no image")
    return first


def _check_size(file: str | Part, image_size: int) -> None:
    with opened(file) as content, Image.open(content) as image:
        if min(image.size) < image_size:
            raise InputError(
                f"{file} has {image.size[0]}×{image.size[1]} pixels: expected at least {image_size} per side, "
                "as corrupted images are cut but not resized; give a smaller --image-size"
            )
