"""Compressed tars: what is in them, and their files in their own order, since nothing in them can be looked up."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from tqdm import tqdm

from apr_dali.data.prepare.catalogue import Item
from apr_dali.data.tar_index import Member
from apr_dali.errors import InputError

OPENERS: dict[str, Callable[..., Any]] = {
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}
"""By the ends of names."""
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")
_BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError)
_CHUNK = 1 << 20


def is_compressed(path: str) -> bool:
    """Whether a file of any name begins as those do."""
    with open(path, "rb") as file:
        return file.read(6).startswith(_MAGIC)


def members(path: str) -> list[Member]:
    """The files in a compressed tar, with their places in what it unpacks to; all of it is unpacked for that.

    Raises InputError, with the byte where it ends, for one that is truncated or damaged.
    """
    found: list[Member] = []
    try:
        with open(path, "rb") as file, _opener(path)(file) as stream, _bar(path) as bar:
            with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
                for member in archive:
                    if member.issparse():
                        raise InputError(f"{path}: {member.name} is stored with holes (tar --sparse): pack it anew")
                    if member.islnk() or member.issym():
                        raise InputError(f"{path}: {member.name} is a link: unpack it, and give the folder")
                    if member.isreg():
                        found.append(Member(member.name, member.offset_data, member.size))
                    bar.update(file.tell() - bar.n)
                    archive.members = []  # type: ignore[attr-defined]  # or it keeps them all
                stopped = archive.offset
            _read_end(stream, stopped)
    except _BROKEN as error:
        raise _broken(path, found[-1].name if found else "its first file", error) from error
    return found


def _bar(path: str) -> Any:
    """Of the bytes of a file: unpacking all of it may take an hour."""
    size = os.path.getsize(path)
    return tqdm(total=size, desc="looking through", unit="B", unit_scale=True, delay=2, disable=None)


def _read_end(stream: Any, stopped: int) -> None:
    """Read what is behind the last file, with the checksum of it all. Raises OSError unless it is a block of zeros.

    The module takes a header that is cut or damaged for the end.
    """
    while rest := stream.read(_CHUNK):
        if rest.strip(b"\0"):
            raise OSError(f"what stands at byte {stopped} of the tar in it is neither a file nor the end")
    if stream.tell() < stopped + tarfile.BLOCKSIZE:
        raise OSError(f"the tar in it ends at byte {stream.tell()}, before its end")


def read_in_order(items: Sequence[Item]) -> Iterator[bytes]:
    """The bytes of items of compressed tars; quick in their order, and where the last call ended."""
    for item in items:
        state = os.stat(item.store)
        stream = _kept(item.store, state.st_ino, state.st_mtime_ns)
        try:
            stream.seek(item.at)
            content = stream.read(item.size)
        except _BROKEN as error:
            raise _broken(item.store, item.name, error) from error
        if len(content) < item.size:
            raise _broken(item.store, item.name, EOFError("it has become shorter"))
        yield content


def _opener(path: str) -> Callable[..., Any]:
    return next(opener for end, opener in OPENERS.items() if path.lower().endswith(end))


@lru_cache(maxsize=1)
def _kept(path: str, *state: int) -> Any:  # noqa: ARG001 - another file of the same path is opened anew
    return _opener(path)(path)


def _broken(path: str, last: str, error: Exception) -> InputError:
    return InputError(
        f"{path} is truncated, damaged or no compressed tar: it ends at byte {os.path.getsize(path)}, in the middle of "
        f"{last} or right behind it ({error}); fetch it again"
    )
