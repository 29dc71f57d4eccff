"""What a trainer or an evaluation reads: image files with labels, or tar files with an index."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.file_list import read_file_list
from apr_dali.errors import InputError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLITS = ("train", "val")

_NAMED = 5
"""How many of a long list of names an error message gives."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Image files with labels.

    files: absolute paths.
    labels: int64 (N,), indices into `classes`.
    classes: names.
    """

    files: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class TarSet:
    """WebDataset tar files: samples of `.jpg` and `.cls`, the label in decimal digits.

    tars: absolute paths.
    indices: absolute path of DALI's index of each.
    classes: names.
    """

    tars: tuple[str, ...]
    indices: tuple[str, ...]
    classes: tuple[str, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Samples in each tar; reads one line of each index."""
        return tuple(count_samples(index) for index in self.indices)

    def __len__(self) -> int:
        return sum(self.counts)


def open_set(
    source: str | Path | Sequence[str | Path],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    allow_missing_classes: bool = False,
) -> ImageSet | TarSet:
    """Find the images of a data set. Reads folder listings and indices, no image.

    Args:
        source: a folder of class folders, a folder of .tar and .idx files with classes.txt in it or above it, or a
            file list. Or several folders of class folders and lists, whose images are put one after the other.
        split: take the folder `split` of the source ("train" or "val"); of a list, the entries below it. After the
            first of several sources, a folder without that split is taken as it is: extra training images.
        classes: the names that labels must refer to, in their order: those of the training set. Without it, the
            sorted names of the class folders, the list's or classes.txt's.
        allow_missing_classes: image files of some of the `classes` will do; labels stay those of all of them. Other
            classes are refused as ever, and a classes.txt of tars must name them all.

    Raises:
        InputError: for whatever is missing, empty, or has other classes than asked for.

    Hidden files and folders (`.ipynb_checkpoints`, `._x.jpg`) are not looked at. An image's class is the folder
    right below the split, however deep it lies.
    """
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    if not sources:
        raise InputError("expected at least one folder or file list of images, got none")
    if allow_missing_classes and classes is None:
        raise InputError("allow_missing_classes has no effect without classes: give those of the training set")
    first = _open_one(sources[0], split, classes, allow_missing_classes)
    sets = [first]
    for extra in sources[1:]:
        nested = split is not None and not os.path.isfile(extra) and not os.path.isdir(os.path.join(extra, split))
        sets.append(_open_one(extra, None if nested else split, first.classes, allow_missing_classes))
    return join(sets)


def join(sets: Sequence[ImageSet | TarSet]) -> ImageSet | TarSet:
    """The images of several sets of the same classes, one set after the other; InputError where one is of tars."""
    if len(sets) == 1:
        return sets[0]
    images = [found for found in sets if isinstance(found, ImageSet)]
    if len(images) < len(sets):
        raise InputError("several sources must be folders of class folders or file lists; tar files cannot be joined")
    return ImageSet(
        files=tuple(file for found in images for file in found.files),
        labels=np.concatenate([found.labels for found in images]),
        classes=images[0].classes,
    )


def with_stand_ins(images: ImageSet, broken: Sequence[str]) -> ImageSet:
    """`images` with the next whole one, labelled -1 - its label, in the place of each that is `broken`.

    As many images in the same order: the epochs of a reader stay what they were. Raises InputError if none is whole.
    """
    if not broken:
        return images
    known = set(broken)
    bad = np.fromiter((file in known for file in images.files), dtype=bool, count=len(images))
    if bad.all():
        raise InputError(f"none of the {len(images)} images can be decoded")
    whole = np.flatnonzero(~bad)
    taken = np.arange(len(images))
    taken[bad] = whole[np.searchsorted(whole, taken[bad]) % len(whole)]
    labels = images.labels[taken]
    return ImageSet(
        files=tuple(images.files[index] for index in taken),
        labels=np.where(bad, -1 - labels, labels),
        classes=images.classes,
    )


def count_samples(index: str | Path) -> int:
    """The number of samples that DALI's index of a tar file states in its first line."""
    try:
        with open(index, encoding="ascii", errors="replace") as file:
            version, count = file.readline(64).split()
        if not version.startswith("v1."):
            raise ValueError(version)
        return int(count)
    except ValueError:
        tar = os.path.splitext(index)[0] + ".tar"
        raise InputError(
            f"{index} is not an index of DALI: its first line must read 'v1.2 N'; make it with: wds2idx {tar} {index}"
        ) from None


def _open_one(
    source: str | Path, split: str | None, classes: Sequence[str] | None, allow_missing: bool
) -> ImageSet | TarSet:
    path = os.path.abspath(source)
    if os.path.isfile(path):
        listing = read_file_list(path)
        return _labelled(path, listing.below(split), listing.classes, classes, allow_missing)
    folder = _split_folder(path, split)
    names, directories = _listing(folder)
    tars = [name for name in names if name.endswith(".tar")]
    if tars:
        return _open_tars(folder, tars, classes)
    _check_class_folders(folder, names, directories)
    found = [(name, file) for name in directories for file in images_below(os.path.join(folder, name))]
    _check_none_empty(folder, directories, {name for name, _ in found})
    return _labelled(folder, found, directories, classes, allow_missing)


def _split_folder(path: str, split: str | None) -> str:
    if not os.path.isdir(path):
        raise InputError(
            f"{path} is not there: give a folder of class folders, a folder of tar files, or a file list; "
            "`--data sample` takes the built-in sample"
        )
    folder = path if split is None else os.path.join(path, split)
    if not os.path.isdir(folder):
        held = _listing(path)[1]
        raise InputError(
            f"{path} has no folder {split!r}: expected {folder}/CLASS/IMAGE, got {_some(held) or 'nothing'}"
        )
    return folder


def _listing(folder: str) -> tuple[list[str], list[str]]:
    """The names of the files and of the folders in `folder`, each sorted, without hidden ones."""
    files: list[str] = []
    directories: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (directories if entry.is_dir() else files).append(entry.name)
    return sorted(files), sorted(directories)


def images_below(folder: str) -> list[str]:
    """The paths of the images in `folder` and its subfolders, sorted, without hidden ones."""
    found = []
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    continue
                # The extension first: for the million images it saves asking what kind of entry it is.
                if name.lower().endswith(EXTENSIONS):
                    found.append(entry.path)
                elif entry.is_dir():
                    waiting.append(entry.path)
    return sorted(found)


def _check_class_folders(folder: str, names: Sequence[str], directories: Sequence[str]) -> None:
    if not directories:
        raise InputError(
            f"{folder} has {f'{len(names)} files but no class folders' if names else 'nothing in it'}: "
            f"expected {folder}/CLASS/IMAGE"
        )
    if set(directories) <= {*SPLITS, "test"}:
        raise InputError(
            f"{folder} holds the splits {', '.join(directories)}, not class folders: give {folder}/{directories[-1]}"
        )


def _check_none_empty(folder: str, directories: Sequence[str], filled: set[str]) -> None:
    empty = [name for name in directories if name not in filled]
    if empty:
        raise InputError(
            f"{folder} has {len(empty)} class folders without an image ({', '.join(EXTENSIONS)}): {_some(empty)}; "
            "put their images there or remove the folders"
        )


def _labelled(
    where: str,
    found: Sequence[tuple[str, str]],
    own: Sequence[str],
    expected: Sequence[str] | None,
    allow_missing: bool,
) -> ImageSet:
    _check_classes(where, own, expected, allow_missing)
    classes = tuple(own if expected is None else expected)
    label = {name: index for index, name in enumerate(classes)}
    labels = np.fromiter((label[name] for name, _ in found), dtype=np.int64, count=len(found))
    return ImageSet(tuple(file for _, file in found), labels, classes)


def _check_classes(where: str, own: Iterable[str], expected: Sequence[str] | None, allow_missing: bool = False) -> None:
    if expected is None:
        return
    have, want = set(own), set(expected)
    if have == want or (allow_missing and have < want):
        return
    differences = {"missing": sorted(want - have), "extra": sorted(have - want)}
    told = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in differences.items() if names)
    raise InputError(f"{where} must have the training set's {len(want)} classes, got {len(have)} ({told})")


def _open_tars(folder: str, names: Sequence[str], expected: Sequence[str] | None) -> TarSet:
    tars = tuple(os.path.join(folder, name) for name in names)
    indices = tuple(tar.removesuffix(".tar") + ".idx" for tar in tars)
    for tar, index in zip(tars, indices, strict=True):
        if not os.path.isfile(index):
            raise InputError(f"{tar} has no index; make it with DALI's tool: wds2idx {tar} {index}")
    classes = _tar_classes(folder)
    _check_classes(folder, classes, expected)
    if expected is not None and tuple(expected) != classes:
        # A tar holds numbers, not names: they cannot be turned into another order.
        raise InputError(f"{folder}: classes.txt must name the classes in the order of the training set's")
    found = TarSet(tars, indices, classes)
    if not len(found):
        raise InputError(f"{folder}: its tar files hold no samples, by their indices")
    return found


def _tar_classes(folder: str) -> tuple[str, ...]:
    folders = [folder, os.path.dirname(folder)]
    path = next((p for p in (os.path.join(f, "classes.txt") for f in folders) if os.path.isfile(p)), None)
    if path is None:
        raise InputError(
            f"{folder} has tar files but no classes.txt: write {os.path.join(folder, 'classes.txt')} (or one above it) "
            "with the name of one class a line, in the order of the labels"
        )
    classes = tuple(line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip())
    if not classes or len(set(classes)) != len(classes):
        raise InputError(f"{path} must name each class once, one a line, got {len(classes)} lines")
    return classes


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
