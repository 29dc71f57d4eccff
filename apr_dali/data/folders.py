"""What a trainer or an evaluation reads: image files with labels, or tar files with an index."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.data import tar_sources
from apr_dali.data.class_names import check_classes, check_each_once, some
from apr_dali.data.file_list import read_file_list
from apr_dali.data.folder_cache import images_in
from apr_dali.data.listing import EXTENSIONS, NOT_UTF8, UNREAD, images_below, is_image, is_utf8, listing, warn_of_unread
from apr_dali.data.tars import DEFAULT, TIFFS, Components, TarSet, join_tars
from apr_dali.errors import InputError, check_choice

SPLITS = ("train", "val")
_CALLED = {"test", *chain(*tar_sources.CALLED.values())}
"""Names that parts of a set have."""

_ALLOW = "; of a validation set that is meant to lack some: --allow-missing-classes, or allow_missing_classes=True"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Image files with labels.

    files: absolute paths.
    labels: int64 (N,), indices into `classes`.
    classes: names.
    sources: how many each of the sets has that were joined to this one.
    """

    files: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    sources: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def faults(self) -> list[tuple[str, str]]:
        """(path, reason) of the files that no pipeline can open, whatever is in them."""
        return [(file, NOT_UTF8) for file in self.files if not is_utf8(file)]

    def only(self, numbers: NDArray[np.int64]) -> ImageSet:
        """The images of these numbers, int64 (K,), in their order."""
        return ImageSet(tuple(self.files[number] for number in numbers), self.labels[numbers], self.classes)

    def tiffs(self) -> list[str]:
        """The files that are TIFFs by their names."""
        return [file for file in self.files if file.lower().endswith(TIFFS)]


def open_set(
    source: str | Path | Sequence[str | Path],
    split: str | None = None,
    classes: Sequence[str] | None = None,
    *,
    allow_missing_classes: bool = False,
    components: Components = DEFAULT,
    mixed: bool = False,
    cached: bool = True,
) -> ImageSet | TarSet:
    """Find the images of a data set. Reads folder listings and indices, no image.

    Args:
        source: a folder of class folders, a folder of .tar files with classes.txt in it or above it, or a file list.
            DALI's indices of the tars are made where they are missing. Or a pattern of tars, or an address of object
            storage, see `apr_dali.data.tar_sources`. Or several of these, all of image files or all of tars, whose
            images are put one after the other.
        split: take the folder `split` of the source ("train" or "val"); of a list, the entries below it. After the
            first of several sources, a folder without that split is taken as it is: extra training images.
        classes: the names that labels must refer to, in their order: those of the training set. Without it, the
            sorted names of the class folders, the list's or classes.txt's.
        allow_missing_classes: image files of some of the `classes` will do; labels stay those of all of them. Other
            classes are refused as ever, and a classes.txt of tars must name them all.
        components: which members of a tar's samples are image and label; of tars only.
        mixed: the components are of several sets' tars, see `check_components`: a set without tars passes over them.
        cached: a large folder's listing of an earlier start will do while no folder in it has another time; False lists
            it anew.

    Raises:
        InputError: for whatever is missing, empty, or has other classes than asked for.

    Hidden files and folders (`.ipynb_checkpoints`, `._x.jpg`) and those of operating systems (`__MACOSX`, `@eaDir`) are
    not looked at, nor are tars beside the class folders that they were unpacked to. An image's class is the folder
    right below the split, however deep it lies.
    """
    sources: list[Any] = list(source) if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise InputError("expected at least one folder or file list of images, got none")
    for one in sources:
        if not isinstance(one, (str, Path)):
            raise InputError(f"expected the path of a folder or file list of images, or several, got {one!r}")
    if classes is not None:
        check_each_once(classes)
    check_choice("allow_missing_classes", allow_missing_classes, (True, False))
    if allow_missing_classes and classes is None:
        raise InputError("allow_missing_classes has no effect without classes: give those of the training set")
    common = (allow_missing_classes, components, cached)
    first = _open_one(sources[0], split, classes, *common)
    sets = [first]
    for extra in sources[1:]:
        whole = split is not None and not os.path.isfile(extra) and not has_split(extra, split)
        sets.append(
            _open_one(extra, None if whole else split, first.classes, allow_missing_classes, components, cached)
        )
    if not mixed:
        check_components(components, any(isinstance(found, TarSet) for found in sets), sources)
    return join(sets)


def has_split(source: str | Path, split: str) -> bool:
    """Whether a source says which of its images are of a split; `open_set` takes it as it is if not."""
    if os.path.isfile(source):
        return bool(read_file_list(source).splits)
    return tar_sources.has_split(str(source), split)


def check_components(components: Components, tars: bool, where: Sequence[str | Path]) -> None:
    """Raise InputError for components where there are no tars. tars: whether there are any in `where`."""
    if components != DEFAULT and not tars:
        places = some([str(path) for path in where])
        raise InputError(f"components (--tar-image, --tar-label) have no effect on {places}: no tars of samples there")


def holds_tars(folder: str | Path) -> bool:
    """Whether `open_set` finds tars of samples in a folder; reads none."""
    if tar_sources.is_elsewhere(folder):
        return True
    if not os.path.isdir(folder):
        return False
    names, directories = listing(os.path.abspath(folder))
    packed = any(name.endswith(".tar") for name in names)
    return packed and not any(images_below(os.path.join(folder, name)) for name in directories)


def open_files(source: str | Path, reader: str, split: str | None = None, **options: Any) -> ImageSet:
    """`open_set` for a reader of image files alone, which is called so in words: tars are refused unread."""
    folder = source if split is None or tar_sources.is_elsewhere(source) else os.path.join(source, split)
    if holds_tars(folder):
        raise InputError(f"{folder} has tar files: {reader} takes class folders of image files; unpack them to these")
    found = open_set(source, split, **options)
    assert isinstance(found, ImageSet)
    return found


def open_unlabeled(folder: str | Path) -> ImageSet | None:
    """The images that lie in a folder itself, each with its own number as label; None where it has folders or none.

    `classes` are the names of their files.
    """
    if tar_sources.is_elsewhere(folder):
        return None
    path = os.path.abspath(folder)
    if not os.path.isdir(path):
        return None
    names, directories = listing(path)
    found = tuple(name for name in names if is_image(name))
    if directories or not found:
        return None
    warn_of_unread([os.path.join(path, name) for name in names if name.lower().endswith(UNREAD)])
    return ImageSet(tuple(os.path.join(path, name) for name in found), np.arange(len(found)), found)


def join(sets: Sequence[ImageSet | TarSet]) -> ImageSet | TarSet:
    """The images of several sets of the same classes, one set after the other.

    Raises InputError where some are of tars and others are not.
    """
    if len(sets) == 1:
        return sets[0]
    images = [found for found in sets if isinstance(found, ImageSet)]
    tars = [found for found in sets if isinstance(found, TarSet)]
    if images and tars:
        raise InputError(
            f"several sources must all be image files or all be tars, got both: {len(images)} and {len(tars)}"
        )
    if tars:
        return join_tars(tars)
    return ImageSet(
        files=tuple(file for found in images for file in found.files),
        labels=np.concatenate([found.labels for found in images]),
        classes=images[0].classes,
        sources=tuple(map(len, images)),
    )


def with_stand_ins(images: ImageSet | TarSet, broken: Sequence[str]) -> ImageSet | TarSet:
    """`images` with the next whole one, labeled -1 - its label, in the place of each that is `broken`.

    As many images in the same order: the epochs of a reader stay what they were. Raises InputError if none is whole;
    for tars when they are read.
    """
    if not broken:
        return images
    if isinstance(images, TarSet):
        return images.without(broken)
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


def _open_one(
    source: str | Path,
    split: str | None,
    classes: Sequence[str] | None,
    allow_missing: bool,
    components: Components,
    cached: bool,
) -> ImageSet | TarSet:
    if isinstance(source, str) and tar_sources.is_elsewhere(source):
        return tar_sources.open_tars(source, tar_sources.find(source, split), classes, components)
    path = os.path.abspath(source)
    if os.path.isfile(path):
        entries = read_file_list(path)
        of, files = zip(*entries.below(split), strict=True)
        number = {name: index for index, name in enumerate(entries.classes)}
        numbers = np.fromiter((number[name] for name in of), np.int64, len(of))
        return _labeled(path, files, numbers, entries.classes, classes, allow_missing)
    if split is not None and not os.path.isdir(os.path.join(path, split)):
        mixed = tar_sources.flat(path, split)
        if mixed is not None:
            return tar_sources.open_tars(path, mixed, classes, components)
    folder = _split_folder(path, split)
    names, directories = listing(folder)
    tars = [name for name in names if name.endswith(".tar")]
    if directories or not tars:
        _check_class_folders(folder, names, directories)
    found = images_in(folder, directories, cached)
    if tars and not found.files:
        paths = tuple(os.path.join(folder, name) for name in tars)
        return tar_sources.open_tars(folder, tar_sources.Tars(paths, paths), classes, components)
    _check_unpacked(folder, tars, directories)
    warn_of_unread(found.unread)
    _check_none_empty(folder, [name for name, count in zip(directories, found.counts, strict=True) if not count])
    numbers = np.repeat(np.arange(len(directories)), found.counts)
    return _labeled(folder, found.files, numbers, directories, classes, allow_missing)


def _split_folder(path: str, split: str | None) -> str:
    if not os.path.isdir(path):
        raise InputError(
            f"{path} is {'no folder' if os.path.exists(path) else 'not there'}: "
            "give a folder of class folders, a folder of tar files, or a file list"
        )
    folder = path if split is None else os.path.join(path, split)
    if not os.path.isdir(folder):
        files, held = listing(path)
        raise InputError(
            f"{path} has no folder {split!r}: expected {folder}/CLASS/IMAGE, got {some(held or files) or 'nothing'}"
            + "; of archives, `apr-dali prepare` makes what is read here" * bool(files and not held)
        )
    return folder


def _check_class_folders(folder: str, names: Sequence[str], directories: Sequence[str]) -> None:
    if not directories:
        compressed = [name for name in names if name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"))]
        reason = f"compressed tars ({some(compressed)}), which cannot be read from within: unpack them to .tar files"
        raise InputError(
            f"{folder} has "
            + (reason if compressed else f"{len(names)} files but no class folders" if names else "nothing in it")
            + f"; expected {folder}/CLASS/IMAGE"
        )
    if set(directories) <= _CALLED:
        instead = " or ".join(f"{folder}/{name}" for name in directories)
        raise InputError(f"{folder} holds the splits {', '.join(directories)}, not class folders: give {instead}")


def _check_unpacked(folder: str, tars: Sequence[str], directories: Sequence[str]) -> None:
    packed = [name for name in tars if name.removesuffix(".tar") not in directories]
    if packed:
        raise InputError(
            f"{folder} holds class folders ({some(directories)}) and also tar files ({some(packed)}): unpack these "
            "to class folders of their names, or move them or the folders elsewhere"
        )


def _check_none_empty(folder: str, empty: Sequence[str]) -> None:
    if empty:
        raise InputError(
            f"{folder} has {len(empty)} class folders without an image ({', '.join(EXTENSIONS)}): {some(empty)}; "
            "put their images there or remove the folders"
        )


def _labeled(
    where: str,
    files: tuple[str, ...],
    numbers: NDArray[np.int64],
    own: Sequence[str],
    expected: Sequence[str] | None,
    allow_missing: bool,
) -> ImageSet:
    """Files with labels in the order of the classes that are expected; numbers: those in that of their `own` names."""
    check_classes(where, own, expected, allow_missing, _ALLOW)
    classes = tuple(own if expected is None else expected)
    label = {name: index for index, name in enumerate(classes)}
    return ImageSet(files, np.array([label[name] for name in own], np.int64)[numbers], classes)
