"""Zip archives: what is in them, and single files of them, which other processes read in any order."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from apr_dali.data.prepare.catalogue import Item
from apr_dali.data.tar_index import Member
from apr_dali.errors import InputError

_HEADER = struct.Struct("<4s2xHH4xIII2H")
"""Before each file: signature, flags, method, CRC-32, bytes packed and unpacked, bytes of the name and of the rest."""
_SIGNATURE, _BEHIND = b"PK\3\4", b"PK\7\x08"
_ENCRYPTED, _CHECKSUM_FOLLOWS = 1, 8  # of the flags
_CHUNK = 1 << 16


def members(path: str) -> list[Member]:
    """The files in a zip archive: their names, the place of the header before each, their bytes unpacked.

    Raises InputError, with the byte where it ends, for one that is truncated; and for what cannot be read in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, struct.error) as error:
        raise InputError(
            f"{path} is truncated, or no zip archive: it ends at byte {os.path.getsize(path)} without the list of its "
            f"files ({error}); fetch the rest of it"
        ) from error
    for entry in entries:
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            kind = "encrypted" if entry.flag_bits & _ENCRYPTED else f"packed by the method {entry.compress_type}"
            raise InputError(f"{path}: {entry.filename} is {kind}: unpack the archive, and give the folder")
    return [Member(entry.filename, entry.header_offset, entry.file_size) for entry in entries]


def read_zipped(items: Sequence[Item]) -> Iterator[bytes]:
    """The bytes of items of zip archives; each of them as it is asked for.

    A file is found by its own header: the list of all, at the archive's end, would be a gigabyte in every process.
    """
    opened: dict[str, BinaryIO] = {}
    try:
        for item in items:
            if item.store not in opened:
                opened[item.store] = open(item.store, "rb")  # noqa: SIM115 - closed below, with all others
            yield _content(opened[item.store], item)
    finally:
        for file in opened.values():
            file.close()


def _content(file: BinaryIO, item: Item) -> bytes:
    file.seek(item.at)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
        raise _damaged(item, "no file begins there")
    _, flags, method, checksum, _, _, *lengths = _HEADER.unpack(header)
    file.seek(sum(lengths), os.SEEK_CUR)
    if method == zipfile.ZIP_STORED:
        content, behind = file.read(item.size), b""
    else:
        content, behind = _inflated(file, item)
    if flags & _CHECKSUM_FOLLOWS:
        behind += file.read(max(0, 8 - len(behind)))
        start = 4 if behind.startswith(_BEHIND) else 0
        checksum = int.from_bytes(behind[start : start + 4], "little")
    if len(content) != item.size or zlib.crc32(content) != checksum:
        raise _damaged(item, f"expected {item.size} bytes of the checksum {checksum:08x}")
    return content


def _inflated(file: BinaryIO, item: Item) -> tuple[bytes, bytes]:
    """The content, and what was read behind it."""
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    parts = []
    try:
        while not unpacking.eof and (packed := file.read(_CHUNK)):
            parts.append(unpacking.decompress(packed))
    except zlib.error as error:
        raise _damaged(item, str(error)) from error
    return b"".join(parts), unpacking.unused_data


def _damaged(item: Item, why: str) -> InputError:
    return InputError(f"{item.store}: {item.name}, from byte {item.at} on, is damaged ({why}): fetch the archive again")
