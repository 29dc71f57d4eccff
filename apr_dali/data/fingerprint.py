"""Checksums that distinguish one set of images from another, without reading files."""

from __future__ import annotations

import hashlib
import os
import zlib

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.arrays import ArraySet
from apr_dali.data.folders import ImageSet, TarSet

CONTENTS = 16
"""Hex digits of an identity that say what a set is, whenever and wherever its files were written."""


def fingerprint(source: ImageSet | TarSet | ArraySet) -> int:
    """CRC-32 of the names and labels of image files, of the names and sizes of tars, or of images in memory.

    Names count from the folder on that all of them are in: a set that was moved as a whole is still the same.
    """
    if isinstance(source, ArraySet):
        return zlib.crc32(source.labels.tobytes(), zlib.crc32(np.ascontiguousarray(source.images).data))
    if isinstance(source, ImageSet):
        return zlib.crc32(source.labels.tobytes(), _names(source.files))
    sizes = [os.path.getsize(tar) if os.path.isfile(tar) else "" for tar in source.tars]  # not of object storage
    return zlib.crc32(repr((sizes, source.counts)).encode(), _names(source.tars))


def identity(source: ImageSet | TarSet) -> str:
    """32 hex digits of what a result on the set depends on: classes, labels, names and sizes of its files; and, in the
    last 16, their times.

    A set that was moved as a whole is still the same; one of which a file was written anew is not. A copy has the first
    CONTENTS digits of the set.
    """
    digest = hashlib.sha256(repr(source.classes).encode("utf-8", "surrogateescape"))
    files = source.files if isinstance(source, ImageSet) else source.tars
    digest.update(_relative(files).encode("utf-8", "surrogateescape"))
    sizes, times = zip(*map(_size_and_time, files), strict=True) if files else ((), ())
    digest.update(repr(sizes).encode())
    digest.update(repr(source.counts).encode() if isinstance(source, TarSet) else source.labels.tobytes())
    return digest.hexdigest()[:CONTENTS] + hashlib.sha256(repr(times).encode()).hexdigest()[:16]


def identity_of_arrays(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """CONTENTS hex digits for images in memory, or mapped to it: of all pixels and labels."""
    digest = hashlib.sha256(repr((images.shape, labels.shape)).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(labels).data)
    return digest.hexdigest()[:CONTENTS]


def _size_and_time(path: str) -> tuple[int | None, int | None]:
    try:
        found = os.stat(path)
    except OSError:  # object storage, and what the reader of the file will name
        return None, None
    return found.st_size, found.st_mtime_ns


def _names(paths: tuple[str, ...]) -> int:
    return zlib.crc32(_relative(paths).encode("utf-8", "surrogateescape"))


def _relative(paths: tuple[str, ...]) -> str:
    # What the first and the last in sorted order have in common, all have: over a million names this is quick.
    common = os.path.commonprefix([min(paths), max(paths)])  # noqa: RUF071 - cut at the last / below
    start = common.rfind("/") + 1
    return "\0".join([path[start:] for path in paths])
