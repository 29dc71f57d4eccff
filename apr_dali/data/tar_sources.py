"""Which tars a name stands for, in a folder or in object storage, and the classes of their labels.

A name is a folder, or a pattern of tars with braces and wildcards as the shell has them: `train-{0000..1023}.tar`,
`{a,b}/*.tar`. A folder may hold the tars of several splits, told by the words in their names, as timm's
`imagenet1k-train-0000.tar` and `imagenet1k-validation-00.tar`.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from apr_dali.data import remote
from apr_dali.data.class_names import check_classes, parse_classes, read_classes, some
from apr_dali.data.kinds import wnid_of
from apr_dali.data.listing import NOT_UTF8, is_utf8, listing
from apr_dali.data.remote import is_remote
from apr_dali.data.tars import Components, TarSet
from apr_dali.errors import InputError

CALLED = {"train": ("train", "training"), "val": ("val", "validation", "valid")}
"""What splits are called, in names of files and folders."""
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 10**6
"""Names that a pattern may stand for."""


class Tars(NamedTuple):
    """Tars of a split. naming: those whose keys tell the names of the classes where nothing else does."""

    tars: tuple[str, ...]
    naming: tuple[str, ...]


def split_of(name: str) -> str:
    """The split that a word in the name of a file says: a key of CALLED, or "test"; empty where none does."""
    words = re.findall(r"[a-z]+", name.lower())
    known = {word: split for split, called in CALLED.items() for word in called} | {"test": "test"}
    return next((known[word] for word in words if word in known), "")


def is_pattern(source: str) -> bool:
    """Whether a name has braces or wildcards, and nothing is called so."""
    return any(sign in source for sign in "*?[{") and not os.path.exists(source)


def is_elsewhere(source: object) -> bool:
    """Whether it is for `find` to say what lies there: an address, or a pattern."""
    return isinstance(source, str) and (is_remote(source) or is_pattern(source))


def has_split(source: str, split: str) -> bool:
    """Whether a folder, an address or a pattern says which of its images are of a split."""
    if is_pattern(source):
        return bool(_of_split(expand(source), split))
    if not is_remote(source):
        return os.path.isdir(os.path.join(source, split)) or bool(_of_split(_local(source), split))
    _, folders = remote.listing(source)
    return split in folders or bool(_of_split(_tars_at(source), split))


def find(source: str, split: str | None) -> Tars:
    """The tars of a split, or all, at an address or of a pattern. Raises InputError where there are none."""
    if is_pattern(source):
        found = expand(source)
        return _split(source, found, split) if split else Tars(found, found)
    folder = remote.join(source, split) if split else source
    tars = _tars_at(folder)
    if not tars and split:
        tars = _tars_at(source)
        if _of_split(tars, split):
            return _split(source, tars, split)
    if not tars:
        files, folders = remote.listing(source)
        raise InputError(
            f"{folder} has no tar files: expected {remote.join(folder, 'NAME.tar')}, got {some([*folders, *files])}"
            if files or folders
            else f"{source} is not there, or nothing is in it"
        )
    return Tars(tars, tars)


def flat(folder: str, split: str) -> Tars | None:
    """The tars of a split among those of several in a folder; None where no name says so."""
    tars = _local(folder)
    return _split(folder, tars, split) if _of_split(tars, split) else None


def expand(pattern: str) -> tuple[str, ...]:
    """The tars that a pattern stands for, sorted where it has wildcards. Raises InputError for one that has none."""
    found: list[str] = []
    for name in _braces(pattern):
        if len(found) > _MOST:
            raise InputError(f"{pattern} stands for more than {_MOST} names")
        wild = any(sign in name for sign in "*?[")
        found += sorted(_matching(name)) if wild else [name if is_remote(name) else os.path.abspath(name)]
    tars = tuple(dict.fromkeys(found))
    others = [name for name in tars if not name.endswith(".tar")]
    if others or not tars:
        raise InputError(f"{pattern} must stand for .tar files, got {some(others) or 'nothing that is there'}")
    missing = [name for name in tars if not is_remote(name) and not os.path.isfile(name)]
    if missing:
        raise InputError(f"{pattern}: {len(missing)} of {len(tars)} tars are not there: {some(missing)}")
    return tars


def _braces(pattern: str) -> Iterator[str]:
    """`a{01..03}b` and `{x,y}` as the names that they stand for."""
    found = _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    numbers = _RANGE.fullmatch(found[1])
    if not numbers and "," not in found[1]:
        raise InputError(f"{pattern}: expected {{FIRST..LAST}} or {{A,B}} in the braces, got {found[0]}")
    parts = found[1].split(",")
    if numbers:
        first, last = int(numbers[1]), int(numbers[2])
        if last < first:
            raise InputError(f"{pattern}: {found[0]} counts from {first} down to {last}")
        # As the shell has it, a zero in front of either makes all of them as long.
        padded = any(text.startswith("0") and len(text) > 1 for text in numbers.groups())
        width = max(map(len, numbers.groups())) if padded else 0
        parts = [f"{number:0{width}d}" for number in range(first, last + 1)]
    for part in parts:
        yield from _braces(pattern[: found.start()] + part + pattern[found.end() :])


def _matching(pattern: str) -> list[str]:
    if not is_remote(pattern):
        return glob.glob(os.path.abspath(pattern))
    folder, _, name = pattern.rpartition("/")
    if any(sign in folder for sign in "*?["):
        raise InputError(f"{pattern}: wildcards may stand in the last part of an address alone")
    return [remote.join(folder, file) for file in remote.listing(folder)[0] if fnmatch.fnmatchcase(file, name)]


def _tars_at(folder: str) -> tuple[str, ...]:
    """The tars at an address."""
    return tuple(remote.join(folder, name) for name in remote.listing(folder)[0] if name.endswith(".tar"))


def _local(folder: str) -> tuple[str, ...]:
    path = os.path.abspath(folder)
    names = listing(path)[0] if os.path.isdir(path) else []
    return tuple(os.path.join(path, name) for name in names if name.endswith(".tar"))


def _of_split(tars: Sequence[str], split: str) -> tuple[str, ...]:
    return tuple(tar for tar in tars if split_of(os.path.basename(tar)) == split)


def _split(source: str, tars: tuple[str, ...], split: str) -> Tars:
    unnamed = [tar for tar in tars if not split_of(os.path.basename(tar))]
    if unnamed:
        raise InputError(
            f"{source} holds the tars of several splits, and the name of {unnamed[0]} says none of "
            f"{', '.join(CALLED)}: give those of each split with --train and --val"
        )
    found = _of_split(tars, split)
    if not found:
        raise InputError(f"{source} has no tars of the split {split!r}, only {some(tars)}")
    return Tars(found, _of_split(tars, "train") or found)


def open_tars(where: str, found: Tars, expected: Sequence[str] | None, components: Components) -> TarSet:
    """The samples of tars, with the classes of the classes.txt beside or above them.

    Without one, they are called by the WordNet numbers in the samples' keys. where: what error messages say.

    Raises InputError for other classes than `expected`, or another order, and for tars without samples.
    """
    unreadable = next((tar for tar in found.tars if not is_utf8(tar)), None)
    if unreadable is not None:
        raise InputError(f"{unreadable} {NOT_UTF8}")
    classes = _classes(where, found, components)
    check_classes(where, classes, expected)
    if expected is not None and tuple(expected) != classes:
        # A tar holds numbers, not names: they cannot be turned into another order.
        raise InputError(f"{where}: classes.txt must name the classes in the order of the training set's")
    opened = _set_of(found.tars, classes, components)
    if not len(opened):
        raise InputError(f"{where}: its tar files hold no samples, which are an image and a label of the same key")
    faults = opened.faults()
    if len(faults) == len(opened):
        raise InputError(
            f"{where}: of {len(opened)} samples in its tar files none has both image and label: {faults[0][0]} "
            f"{faults[0][1]}; name the components (--tar-image and --tar-label, or components=... of "
            "open_set), or unpack tars of images without labels into class folders"
        )
    return opened


def _set_of(tars: tuple[str, ...], classes: tuple[str, ...], components: Components) -> TarSet:
    return TarSet(tars, tuple(tar.removesuffix(".tar") + ".idx" for tar in tars), classes, components)


def _classes(where: str, found: Tars, components: Components) -> tuple[str, ...]:
    folders = dict.fromkeys(remote.parent(tar) if is_remote(tar) else os.path.dirname(tar) for tar in found.tars)
    told = {folder: _told(folder) for folder in folders}
    names = {classes for classes in told.values() if classes}
    if len(names) > 1:
        raise InputError(f"{where}: the classes.txt of {some(list(folders))} differ: give tars of the same classes")
    if names and all(told.values()):
        return names.pop()
    folder = next(folder for folder, classes in told.items() if not classes)
    classes = _by_keys(found.naming, components) if not names else None
    if classes is None:
        raise InputError(
            f"{folder} has tar files but no classes.txt: write {os.path.join(folder, 'classes.txt')} (or one above it) "
            "with the name of one class per line, in the order of the labels (numbers will do: `seq 0 999`); or, if "
            "the tars hold the images of one class each, unpack each to a folder of its name; of archives as they were "
            "published, `apr-dali prepare` makes what is read here"
        )
    return classes


def _told(folder: str) -> tuple[str, ...] | None:
    """The classes by a classes.txt in a folder or above it, if there is one."""
    if not is_remote(folder):
        paths = (os.path.join(at, "classes.txt") for at in (folder, os.path.dirname(folder)))
        return next((read_classes(path) for path in paths if Path(path).is_file()), None)
    for address in (remote.join(at, "classes.txt") for at in dict.fromkeys((folder, remote.parent(folder)))):
        if remote.state(address) is not None:
            return parse_classes(remote.read(address), address)
    return None


def _by_keys(tars: tuple[str, ...], components: Components) -> tuple[str, ...] | None:
    """The WordNet numbers in the keys, in the order of the labels that the first sample of each has.

    None where a key has none, or the labels are not all of 0, 1, …
    """
    found = _set_of(tars, (), components)
    firsts: dict[str, int] = {}
    number = 0
    for samples in found.samples:
        for at, key in enumerate(samples.keys):
            if at not in samples.faults:
                wnid = wnid_of(key)
                if wnid is None:
                    return None
                firsts.setdefault(wnid, number + at)
        number += len(samples.keys)
    # In the order of the set, in which labels are read.
    wnids = sorted(firsts, key=firsts.__getitem__)
    chosen = found.only(np.array(sorted(firsts.values()), np.int64)).with_classes(tuple(wnids))
    names = {label: wnid for wnid, (_, label) in zip(wnids, chosen.read_labels(), strict=True)}
    if not wnids or set(names) != set(range(len(wnids))):
        return None
    return tuple(names[label] for label in range(len(wnids)))
