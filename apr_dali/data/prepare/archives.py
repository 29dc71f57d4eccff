"""ILSVRC2012's archives: a tar of one tar a class for training, a flat tar for validation."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from apr_dali.data.listing import is_image
from apr_dali.data.prepare import compressed
from apr_dali.data.prepare.catalogue import Item, Source
from apr_dali.data.prepare.truth import Truth
from apr_dali.data.tar_index import Member
from apr_dali.errors import InputError

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_BLOCK = 512

Map = Callable[..., Iterable[Any]]


def open_archives(train: Path | None, val: Path | None, truth: Truth | None, mapped: Map = map) -> Source:
    """The images of one or both archives. truth: of the validation images. mapped: a `map`, of processes if need be.

    Raises InputError for an archive that is truncated, or something else, and for images without a class.
    """
    inner = _inner(train) if train is not None else {}
    classes = tuple(sorted(inner)) or (truth.classes if truth else ())
    if truth is not None and inner and set(truth.classes) != set(classes):
        odd = sorted(set(truth.classes) ^ set(classes))
        raise InputError(
            f"{truth.where} has {len(truth.classes)} classes and {train} {len(classes)}: they differ in "
            f"{', '.join(odd[:5])}"
        )
    splits: dict[str, list[Item]] = {}
    if train is not None:
        scan = partial(members, str(train))
        ranges = [(inner[name].offset, inner[name].offset + inner[name].size) for name in classes]
        found = mapped(scan, [start for start, _ in ranges], [end for _, end in ranges])
        splits["train"] = [
            Item(label, os.path.basename(name), str(train), offset, size)
            for label, images in enumerate(found)
            for name, offset, size in images
            if is_image(name)
        ]
    if val is not None:
        assert truth is not None
        splits["val"] = _validation(val, truth, classes)
    told = " and ".join(path.name for path in (train, val) if path is not None)
    per_class = tuple(truth.train_counts[name] for name in classes) if truth is not None and truth.train_counts else ()
    return Source(told, classes, splits, per_class=per_class, official=True)


def _inner(train: Path) -> dict[str, Member]:
    """The tar of each class, by its name."""
    found = members(str(train))
    tars = {os.path.basename(member.name).removesuffix(".tar"): member for member in found if _is_tar(member.name)}
    others = [member.name for member in found if not _is_tar(member.name)]
    if not tars or others:
        raise InputError(
            f"{train} is not the archive of training images: expected a tar of one .tar a class, got "
            f"{', '.join(others[:5]) or 'nothing'} in it"
        )
    return tars


def _validation(val: Path, truth: Truth, classes: tuple[str, ...]) -> list[Item]:
    images = [member for member in members(str(val)) if is_image(member.name)]
    if not images:
        raise InputError(f"{val} is not the archive of validation images: expected images in it, got none")
    label = {name: number for number, name in enumerate(classes)}
    images.sort(key=lambda member: os.path.basename(member.name))
    of = truth.of([os.path.basename(member.name) for member in images], str(val))
    return [
        Item(label[name], os.path.basename(member.name), str(val), member.offset, member.size)
        for member, name in zip(images, of, strict=True)
    ]


def _is_tar(name: str) -> bool:
    return name.endswith(".tar")


def members(path: str, start: int = 0, end: int | None = None) -> list[Member]:
    """The files in a tar, or in the part of `path` from the byte `start` to `end` that is one; places in all of it.

    Raises InputError, with the byte where it ends, for one that is truncated, damaged or compressed.
    """
    size = os.path.getsize(path)
    found: list[Member] = []
    try:
        with open(path, "rb") as file:
            file.seek(start)
            # The module goes on from where the file stands.
            with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
                for member in archive:
                    if end is not None and member.offset >= end:
                        raise InputError(f"{path}: the tar within it at byte {start} has no end: fetch it again")
                    reaches = member.offset_data + member.size
                    if reaches > size:
                        raise _truncated(path, size, f"{member.name}, which reaches to byte {reaches}")
                    if member.issparse():
                        raise InputError(f"{path}: {member.name} is stored with holes (tar --sparse): pack it anew")
                    if member.isreg():
                        found.append(Member(member.name, member.offset_data, member.size))
                stopped = archive.offset
            file.seek(stopped)
            block = file.read(_BLOCK)
    except tarfile.TarError as error:
        last = f"{found[-1].name}" if found else "its first file"
        if size % _BLOCK or not found:
            raise _truncated(path, size, f"or right behind {last} ({error})") from error
        raise InputError(f"{path} is damaged behind {last} ({error}): fetch it again") from error
    if len(block) < _BLOCK:
        raise _truncated(path, size, f"the list of its files, behind {found[-1].name if found else 'nothing'}")
    if block.strip(b"\0"):
        raise InputError(
            f"{path} is damaged: what stands at byte {stopped} is neither a file nor the end; fetch it again"
        )
    return found


def _truncated(path: str, size: int, within: str) -> InputError:
    if compressed.is_compressed(path):
        return InputError(f"{path} is compressed, whatever its name says: uncompress it first")
    return InputError(
        f"{path} is truncated, or no tar: it ends at byte {size}, in the middle of {within}; fetch the rest of it"
    )
