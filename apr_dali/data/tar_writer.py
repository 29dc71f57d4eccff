"""Writing tar files of samples, an image and a label each, as `apr_dali.data.tars` reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

from apr_dali.data.tar_index import Member

_BLOCK = 512
_USTAR = struct.Struct("100s 8s 8s 8s 12s 12s 8s c 100s 6s 2s 247x")
_RECORD = 20 * _BLOCK
"""Tars end at a multiple of these bytes, as tar's own do."""


class Sample(NamedTuple):
    """An encoded image with its label. key: ASCII, at most 80 characters, without a dot. extension: of the image."""

    key: str
    extension: str
    image: bytes
    label: int


def write_samples(file: BinaryIO, samples: Iterable[Sample]) -> list[Member]:
    """Write a whole tar of `samples`; its members, for the index. The same samples give the same bytes."""
    members: list[Member] = []
    for key, extension, image, label in samples:
        for name, data in ((f"{key}.{extension}", image), (f"{key}.cls", b"%d" % label)):
            file.write(_header(name, len(data)))
            members.append(Member(name, file.tell(), len(data)))
            file.write(data)
            file.write(bytes(-len(data) % _BLOCK))
    file.write(bytes(2 * _BLOCK + -(file.tell() + 2 * _BLOCK) % _RECORD))
    return members


def _header(name: str, size: int) -> bytes:
    """The header of a file of nobody, of the time 0, in POSIX's ustar format: tarfile's takes longer than the image.

    name: ASCII, at most 100 characters.
    """
    digits = b"0000644", b"0000000", b"0000000", b"%011o" % size, b"0" * 11
    plain = _USTAR.pack(name.encode("ascii"), *digits, b" " * 8, b"0", b"", b"ustar", b"00")
    return plain[:148] + b"%06o\0 " % sum(plain) + plain[156:]
