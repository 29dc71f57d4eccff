"""Images on their way from a source that can only be read in its own order into tars of a random one, or into class
folders that several processes write.

Each image goes to the end of a file for the unit that it will be in, in one pass over the source. A unit is made of
such a file, which is then removed: beside source and target there is never more than a unit for each process.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

from apr_dali.data.prepare.catalogue import Item
from apr_dali.errors import InputError

_HEADER = struct.Struct("<QIH")
"""Bytes of the image, its CRC-32, bytes of its name."""


def bucket(folder: Path, split: str, number: int) -> Path:
    """The file of the images for a tar."""
    return folder / f"{split}-{number}"


def append(path: Path, item: Item, content: bytes) -> int:
    """Put an image at the end of a file, and return the bytes that it takes there."""
    name = _name(item).encode("utf-8", "surrogateescape")
    header = _HEADER.pack(len(content), zlib.crc32(content), len(name))
    with open(path, "ab") as file:
        file.write(b"".join((header, name, content)))
    return len(header) + len(name) + len(content)


def located(path: Path, items: Sequence[Item]) -> list[Item]:
    """The items with their places in the file that they were put into.

    Raises InputError where it is damaged, as by a machine that went down.
    """
    if not path.exists():
        raise _damaged(path)
    places: dict[str, tuple[int, int]] = {}
    end = os.path.getsize(path)
    with open(path, "rb") as file:
        while file.tell() < end:
            size, checksum, length = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\0"))
            name = file.read(length).decode("utf-8", "surrogateescape")
            at = file.tell()
            content = file.read(size)
            if len(content) < size or zlib.crc32(content) != checksum:
                raise _damaged(path)
            places[name] = (at, size)
    if places.keys() != {_name(item) for item in items}:
        raise _damaged(path)
    found = [places[_name(item)] for item in items]
    return [item._replace(store=str(path), at=at, size=size) for item, (at, size) in zip(items, found, strict=True)]


def _name(item: Item) -> str:
    # Files of two classes may have the same name.
    return f"{item.label}/{item.name}"


def cut(path: Path, size: int) -> None:
    """Take from the end of a file what came after it had so many bytes. Raises InputError if it has fewer."""
    found = os.path.getsize(path) if path.exists() else 0
    if found < size:
        raise _damaged(path)
    if path.exists():
        os.truncate(path, size)


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged or lost, as by a machine that went down: remove the target and begin anew")
