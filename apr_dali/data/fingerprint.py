"""Checksums by which one set of images is told from another, without reading files."""

from __future__ import annotations

import os
import zlib

from apr_dali.data.arrays import ArraySet
from apr_dali.data.folders import ImageSet, TarSet


def fingerprint(source: ImageSet | TarSet | ArraySet) -> int:
    """CRC-32 of the names and labels of image files, of the names and sizes of tars, or of images in memory.

    Names count from the folder on that all of them are in: a set that was moved as a whole is still the same.
    """
    if isinstance(source, ArraySet):
        return zlib.crc32(source.labels.tobytes(), zlib.crc32(source.images.tobytes()))
    if isinstance(source, ImageSet):
        return zlib.crc32(source.labels.tobytes(), _names(source.files))
    sizes = [os.path.getsize(tar) if os.path.isfile(tar) else "" for tar in source.tars]  # not of object storage
    return zlib.crc32(repr((sizes, source.counts)).encode(), _names(source.tars))


def _names(paths: tuple[str, ...]) -> int:
    # What the first and the last in sorted order have in common, all have: over a million names this is quick.
    common = os.path.commonprefix([min(paths), max(paths)])  # noqa: RUF071 - cut at the last / below
    start = common.rfind("/") + 1
    return zlib.crc32("\0".join([path[start:] for path in paths]).encode("utf-8", "surrogateescape"))
