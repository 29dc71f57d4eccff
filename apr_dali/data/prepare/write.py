"""Writing a unit of the target: some files of class folders, or a tar with its index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from apr_dali.data.prepare import spool
from apr_dali.data.prepare.catalogue import Item, read_ranges
from apr_dali.data.prepare.images import BROKEN, extension_of, oddities, smaller
from apr_dali.data.tar_index import format_index
from apr_dali.data.tar_writer import Sample, write_samples


@dataclass(frozen=True)
class Plan:
    """How units are written; other processes get it.

    out: the target. state: a folder in it for what is not finished. folders: names of the class folders, None for tars.
    read: a function from items to their bytes. spooled: whether the images lie in files of `spool`. max_side: pixels of
    the longer side, None to leave images as they are. quality: of JPEG files that are made smaller.
    """

    out: Path
    state: Path
    folders: tuple[str, ...] | None
    read: Callable[[Sequence[Item]], Iterator[bytes]]
    spooled: bool
    max_side: int | None
    quality: int


@dataclass(frozen=True)
class Unit:
    """Images that are written at once. number: of the split's units."""

    split: str
    number: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Done:
    """What became of a unit. size: bytes of its files. odd: (name, what) of images to be named."""

    split: str
    number: int
    images: int
    size: int
    odd: tuple[tuple[str, str], ...]


def write_unit(plan: Plan, unit: Unit) -> Done:
    """Write a unit, each of its files whole or not at all.

    Raises OSError where it cannot be written, InputError where the source cannot be read any more.
    """
    odd: list[tuple[str, str]] = []
    size = (_write_tar if plan.folders is None else _write_files)(plan, unit, odd)
    return Done(unit.split, unit.number, len(unit.items), size, tuple(odd))


def size_of(plan: Plan, unit: Unit) -> int:
    """The bytes that the files of a unit have; -1 if one of them is not there."""
    paths = [tar_path(plan, unit)] if plan.folders is None else [_file_path(plan, unit, item) for item in unit.items]
    try:
        return sum(os.path.getsize(path) for path in paths)
    except OSError:
        return -1


def tar_path(plan: Plan, unit: Unit) -> str:
    """The tar that a unit becomes."""
    return os.path.join(plan.out, unit.split, f"{unit.number:05d}.tar")


def _file_path(plan: Plan, unit: Unit, item: Item) -> str:
    return os.path.join(plan.out, _place(plan, unit, item))


def _place(plan: Plan, unit: Unit, item: Item) -> str:
    """Where in the target an image is written; of a tar, its path and the key, as a check names it."""
    if plan.folders is None:
        return f"{unit.split}/{unit.number:05d}.tar/{_key(item)}"
    return f"{unit.split}/{plan.folders[item.label]}/{item.name}"


def _key(item: Item) -> str:
    return os.path.splitext(item.name)[0]


def _contents(plan: Plan, unit: Unit, odd: list[tuple[str, str]]) -> Iterator[tuple[Item, bytes]]:
    """The images as they are written; what is odd about one is put down."""
    if plan.spooled:
        items: Sequence[Item] = spool.located(spool.bucket(plan.state, unit.split, unit.number), unit.items)
        contents = read_ranges(items)
    else:
        items = unit.items
        contents = plan.read(items)
    for item, content in zip(items, contents, strict=True):
        extension = item.name.rpartition(".")[2]
        found, made = oddities(content, extension), content
        if plan.max_side is not None and not any(what.startswith(BROKEN) for what in found):
            made, why_not = smaller(content, extension, plan.max_side, plan.quality)
            found += [why_not] if why_not else []
        odd += [(_place(plan, unit, item), what) for what in found]
        yield item, made


def _write_files(plan: Plan, unit: Unit, odd: list[tuple[str, str]]) -> int:
    size = 0
    temporary = _temporary(plan, unit)
    made: set[str] = set()
    try:
        for item, content in _contents(plan, unit, odd):
            path = _file_path(plan, unit, item)
            folder = os.path.dirname(path)
            if folder not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            Path(temporary).write_bytes(content)
            os.replace(temporary, path)
            size += len(content)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return size


def _write_tar(plan: Plan, unit: Unit, odd: list[tuple[str, str]]) -> int:
    path = tar_path(plan, unit)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = _temporary(plan, unit)
    try:
        with open(f"{temporary}.tar", "wb", buffering=1 << 20) as file:
            samples = (
                Sample(_key(item), extension_of(content), content, item.label)
                for item, content in _contents(plan, unit, odd)
            )
            members = write_samples(file, samples)
            size = file.tell()
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{temporary}.tar", path)
        # After its tar: an index that is older is not used.
        Path(f"{temporary}.idx").write_bytes(format_index(members))
        os.replace(f"{temporary}.idx", path.removesuffix(".tar") + ".idx")
    finally:
        for extension in (".tar", ".idx"):
            Path(temporary + extension).unlink(missing_ok=True)
    return size


def _temporary(plan: Plan, unit: Unit) -> str:
    """A path on the target's file system that no other process writes to."""
    return os.path.join(plan.state, f"{unit.split}-{unit.number}-{os.getpid()}.tmp")
