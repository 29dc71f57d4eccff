"""What a source holds: each image's class, name and place, before any is read."""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from apr_dali.data.class_names import on_a_line
from apr_dali.data.kinds import wnid_of
from apr_dali.data.listing import is_hidden, is_utf8
from apr_dali.errors import InputError

_NO_KEY = re.compile(r"[^A-Za-z0-9_+=-]+")
MOST_CLASSES = 10**6
"""Labels from there on are no classes, where nothing says how many there are."""
_LONGEST_KEY = 80
"""Characters: a tar's plain header has room for 100, of which the label and the extension need some."""


class Item(NamedTuple):
    """An image of a source.

    label: index into the source's classes. name: of its file, with the extension. store: path of the file that it is
    or lies in. at: where in it: the first byte, or the number of a row. size: in bytes; about, where a row is meant.
    """

    label: int
    name: str
    store: str
    at: int
    size: int


def read_ranges(items: Sequence[Item]) -> Iterator[bytes]:
    """The bytes of items that are files, or parts of plain files; each of them as it is asked for."""
    opened: dict[str, int] = {}
    try:
        for item in items:
            if item.store not in opened:
                # A set of a thousand tars in random order would use up the process's files.
                while len(opened) >= 64:
                    os.close(opened.pop(next(iter(opened))))
                opened[item.store] = os.open(item.store, os.O_RDONLY)
            # Of what is a file by itself a byte more: it may have grown.
            content = os.pread(opened[item.store], item.size + (item.at == 0), item.at)
            if len(content) != item.size:
                raise InputError(
                    f"{item.store} has become {'shorter' if len(content) < item.size else 'longer'} since it was "
                    f"looked through: {item.name} should end at byte {item.at + item.size}"
                )
            yield content
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


@dataclass(frozen=True)
class Source:
    """What was found at SOURCE.

    told: what it is, in words. classes: names, in the order of the labels. splits: the images of "train", "val" or
    both, in the source's order. read: a function from some of them to their bytes, in order; other processes call it.
    streamed: whether reading in another order than the source's is slow. sequential: whether reading anything but the
    next image is. per_class: how many training images each class must have, where the source itself says so. left_out:
    (name, reason) of what is no labeled image. official: whether its layout is one of ILSVRC2012's.
    """

    told: str
    classes: tuple[str, ...]
    splits: dict[str, list[Item]]
    read: Callable[[Sequence[Item]], Iterator[bytes]] = read_ranges
    streamed: bool = False
    sequential: bool = False
    per_class: tuple[int, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    official: bool = False

    def digest(self) -> str:
        """A checksum of what it holds, by names and sizes."""
        found = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        for split, items in self.splits.items():
            found.update(split.encode())
            for item in items:
                found.update(f"{item.label} {item.name} {item.size}\n".encode("utf-8", "surrogateescape"))
        return found.hexdigest()


def count_labels(splits: dict[str, list[Item]]) -> int:
    """How many classes there are where nothing names them: those of the training images, or of the only split."""
    return min(1 + max(item.label for item in next(iter(splits.values()))), MOST_CLASSES)


def beyond(splits: dict[str, list[Item]], classes: int) -> Item | None:
    """The first image with a label that is none of so many classes."""
    return next((item for items in splits.values() for item in items if not 0 <= item.label < classes), None)


def names_by_wnid(labels: Iterable[tuple[int, str]], classes: int) -> tuple[str, ...] | None:
    """The classes' names by (label, file name), where the names hold one WordNet number for each class."""
    names: dict[int, str] = {}
    for label, name in labels:
        wnid = wnid_of(name)
        if wnid is not None and names.setdefault(label, wnid) != wnid:
            return None
    if len(names) < classes or len(set(names.values())) < classes:
        return None
    return tuple(names[label] for label in range(classes))


def as_files(items: Iterable[Item]) -> Iterator[Item]:
    """The same with names of files that are in no folder, each once in its class, and can be opened by DALI."""
    taken: defaultdict[int, set[str]] = defaultdict(set)
    for item in items:
        stem, dot, extension = item.name.replace("/", "_").rpartition(".")
        plain = is_utf8(stem) and not is_hidden(stem)
        stem = stem if plain else _NO_KEY.sub("_", stem).strip("_") or "image"
        yield _named(item, _once(stem, dot + extension, taken[item.label]))


def as_keys(items: Iterable[Item]) -> Iterator[Item]:
    """The same with names that are a sample's key and an extension, each key once."""
    taken: set[str] = set()
    for item in items:
        stem, extension = os.path.splitext(item.name)
        key = _NO_KEY.sub("_", stem)[-_LONGEST_KEY:].strip("_") or "image"
        yield _named(item, _once(key, "", taken) + extension)


def _once(stem: str, extension: str, taken: set[str]) -> str:
    name, number = stem + extension, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{extension}"
    taken.add(name)
    return name


def _named(item: Item, name: str) -> Item:
    # Of a million images most have a name that will do: no second list of them.
    return item if name == item.name else item._replace(name=name)


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of folders for classes, whose sorted order is that of the labels: numbered where theirs is another."""
    plain = tuple(name.replace("/", "_") or "class" for name in map(on_a_line, classes))
    if list(plain) == sorted(set(plain)) and not any(map(is_hidden, plain)):
        return plain
    digits = len(str(len(plain) - 1))
    numbers = plain == tuple(map(str, range(len(plain))))
    return tuple(f"{n:0{digits}d}" + ("" if numbers else f"_{name}") for n, name in enumerate(plain))


def listed_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of classes that a line of a classes.txt can hold, each once."""
    plain = tuple(map(on_a_line, classes))
    return plain if all(plain) and len(set(plain)) == len(plain) else folder_names(classes)
