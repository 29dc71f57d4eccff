"""DALI's indices of tar files (`wds2idx`): reading them, noticing those that do not fit, and making them.

The first line says `v1.2 N`, each of the N lines after it names the members of a sample: component, offset of the
content, size, and path. Where a path has blanks, which would end it, the first line ends with `quoted` and the paths
are percent-encoded.
"""

from __future__ import annotations

import os
import tarfile
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast
from urllib.parse import quote, unquote

from apr_dali.data import remote
from apr_dali.data.listing import is_hidden
from apr_dali.data.remote import is_remote
from apr_dali.errors import InputError
from apr_dali.runtime import cache

_BLOCK = 512
_QUOTED = "quoted"
_FIELDS = {"v1.0": 3, "v1.1": 3, "v1.2": 4}


class Member(NamedTuple):
    """A file within a tar: its path, and where its bytes lie."""

    name: str
    offset: int
    size: int


def split_name(path: str) -> tuple[str, str]:
    """The key and the component of a member; both empty where it belongs to no sample, as hidden ones do not."""
    path = path.removeprefix("./")
    folder, slash, name = path.rpartition("/")
    stem, _, component = name.partition(".")
    if not stem or not component or (folder and _is_hidden(folder)):
        return "", ""
    return folder + slash + stem, component


@lru_cache(maxsize=1024)  # one for each member would be half the time of opening a set
def _is_hidden(folder: str) -> bool:
    names = folder.split("/")
    # As WebDataset has it, `__name__` is about the whole set.
    return any(map(is_hidden, names)) or (names[0].startswith("__") and names[0].endswith("__"))


def members_of(tar: str, index: str) -> list[Member]:
    """The members of a tar, by its index where there is one that fits; otherwise one is made.

    Either may be the address of an object; the index of such a tar is kept in the cache folder.

    Raises InputError for a tar or an index that cannot be read, and for a remote tar whose index is to be on this
    machine and is not.
    """
    if is_remote(tar):
        return _remote_members(tar, index)
    if not os.path.isfile(tar):
        raise InputError(f"{tar} is not there, or no file")
    if not os.path.isfile(index):
        return _made(tar, [index, _cached(tar)])
    found, reason = _fitting(tar, index)
    if reason is None:
        return found
    fresh = _made(tar, [_cached(tar)])
    # A copied set is often older by its times alone; wds2idx has other words for names that are not ASCII.
    if {member[1:] for member in fresh} != {member[1:] for member in found if split_name(member.name)[0]}:
        _warn_of_another(index, reason, tar)
    return fresh


def _warn_of_another(index: str, reason: str, tar: str) -> None:
    warnings.warn(
        f"{index} {reason}: took another index, made of {tar} now; make it anew (wds2idx) or remove it",
        stacklevel=3,
    )


def _remote_members(tar: str, index: str) -> list[Member]:
    if not is_remote(index):
        if not os.path.isfile(index):
            raise InputError(f"{tar} needs its index on this machine, and {index} is not there: make it with wds2idx")
        return read_index(index)
    of, by = remote.state(tar), remote.state(index)
    if of is None:
        raise InputError(f"{tar} is not there")
    kept = cache.cached("indices", f"{tar}\0{of}\0{by}", ".idx")
    if kept.is_file():
        return read_index(str(kept))
    if by is not None:
        found, reason = _fetched(tar, index, of.size)
        if reason is None:
            cache.keep(kept, format_index(found))
            return found
        _warn_of_another(index, reason, tar)
    return _made(tar, [str(kept)])


def _fetched(tar: str, index: str, size: int) -> tuple[list[Member], str | None]:
    """The members by the index of a remote tar of so many bytes, and why it does not belong to it, if so."""
    try:
        found = _parsed(remote.read(index), index)
    except InputError:
        return [], "is not an index of DALI"
    ends = [member for member in found[:1] + found[-1:] if member.offset + member.size <= size]
    headers = remote.read_ranges(tar, [(member.offset - _BLOCK, _BLOCK) for member in ends])
    return found, _why_unfit(found, size, dict(zip(ends, headers, strict=True)))


def read_index(path: str) -> list[Member]:
    """The members that an index names. Raises InputError where it is none."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return _parsed(content, path)


def _parsed(content: bytes, path: str) -> list[Member]:
    try:
        first, *rest = content.decode("utf-8", "surrogateescape").split("\n")
        version, count, *quoted = first.split()
        lines = [line.split() for line in rest[: int(count)]]
        members = _members(lines + [[]] * (int(count) - len(lines)), _FIELDS[version])
    except (ValueError, KeyError):
        raise InputError(
            f"{path} is not an index of DALI: its first line must read 'v1.2 N', and the N lines after it name the "
            "members of a sample each: component, offset, size and path; make it anew with wds2idx, or remove it"
        ) from None
    return [Member(unquote(name, errors="surrogateescape"), *rest) for name, *rest in members] if quoted else members


def _members(lines: Sequence[Sequence[str]], fields: int) -> list[Member]:
    if not all(lines) or any(len(words) % fields for words in lines):
        raise ValueError("a line is cut off")
    components = [word for words in lines for word in words[0::fields]]
    offsets = [int(word) for words in lines for word in words[1::fields]]
    sizes = [int(word) for words in lines for word in words[2::fields]]
    if fields == _FIELDS["v1.2"]:
        names = [word for words in lines for word in words[3::fields]]
    else:  # there are no paths, but a line is a sample
        names = [f"{number}.{word}" for number, words in enumerate(lines) for word in words[0::fields]]
    if any(offset % _BLOCK for offset in offsets) or not all(map(str.endswith, names, components)):
        raise ValueError("a line is not in order")
    return list(map(Member, names, offsets, sizes))


def _fitting(tar: str, index: str) -> tuple[list[Member], str | None]:
    """The members by the index, and why it does not belong to the tar as it is now, if so."""
    try:
        found = read_index(index)
    except InputError:
        return [], "is not an index of DALI"
    state = os.stat(tar)
    headers = {}
    with open(tar, "rb") as file:
        for member in found[:1] + found[-1:]:
            file.seek(member.offset - _BLOCK)
            headers[member] = file.read(_BLOCK)
    older = "is older than its tar" if os.stat(index).st_mtime_ns < state.st_mtime_ns else None
    return found, _why_unfit(found, state.st_size, headers) or older


def _why_unfit(found: Sequence[Member], size: int, headers: dict[Member, bytes]) -> str | None:
    """Why members do not belong to a tar of so many bytes. headers: what stands before some of them."""
    if any(member.offset + member.size > size for member in found):
        return "reaches beyond the end of its tar"
    return "does not fit its tar" if any(_size_in(block) != at.size for at, block in headers.items()) else None


def _size_in(header: bytes) -> int | None:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape").size
    except tarfile.HeaderError:
        return None


def _made(tar: str, places: Sequence[str]) -> list[Member]:
    """The members by the tar's headers, for which an index is written in the first of the places that allows it."""
    cached = places[-1]
    if os.path.isfile(cached):
        return read_index(cached)
    members = [member for member in scan(tar) if split_name(member.name)[0]]
    content = format_index(members)
    # It is right without one; the next start reads all headers again.
    any(cache.keep(place, content) for place in places)
    return members


def _cached(tar: str) -> str:
    """Where the index of the tar as it is now lies in the cache folder; another place once the tar changes."""
    state = os.stat(tar)
    return str(cache.cached("indices", f"{os.path.abspath(tar)}\0{state.st_size}\0{state.st_mtime_ns}", ".idx"))


def open_tar(tar: str) -> BinaryIO:
    """A tar as a file: on this machine's file systems, or an object."""
    return cast(BinaryIO, remote.open_object(tar)) if is_remote(tar) else open(tar, "rb")


def scan(tar: str) -> list[Member]:
    """The members of a tar by its headers, hard links as what they lead to.

    Raises InputError for a damaged one; where it is cut off, with the byte where it ends.
    """
    found: dict[str, Member] = {}
    members: list[Member] = []
    with open_tar(tar) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
                for member in archive:
                    if member.issparse():
                        raise tarfile.ReadError(f"{member.name} is stored with holes, as by tar --sparse")
                    end = member.offset_data + member.size
                    if member.isreg() and end > size:
                        raise tarfile.ReadError(f"it ends at byte {size}, within {member.name}, which ends at {end}")
                    if member.isreg():
                        found[member.name] = Member(member.name, member.offset_data, member.size)
                        members.append(found[member.name])
                    elif member.islnk() and member.linkname in found:
                        members.append(found[member.linkname]._replace(name=member.name))
                stop = archive.offset
        except (tarfile.TarError, OSError) as error:
            raise InputError(_damaged(tar, size, error)) from error
        file.seek(stop)
        # The module takes a damaged header for the end.
        rest = file.read(_BLOCK)
        if rest.strip(b"\0"):
            why = "neither a member nor the end" if len(rest) == _BLOCK else f"a header that is cut off at byte {size}"
            raise InputError(f"{tar} is damaged: what stands at byte {stop} is {why}")
        more = _member_behind(file)
        if more is not None:
            raise InputError(
                f"{tar} has members behind its end ({more} is the first): tars that were joined by cat are read as the "
                "first one alone; join them with `tar --concatenate`, or keep them apart"
            )
    return members


def _member_behind(file: BinaryIO) -> str | None:
    """The name of the first member in the blocks from here on, passing over zeros; None where other things come."""
    while block := file.read(_BLOCK):
        if block.strip(b"\0"):
            try:
                return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape").name
            except tarfile.HeaderError:
                return None
    return None


def _damaged(tar: str, size: int, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    # What tarfile says of a header that is cut, and of padding.
    if reason.startswith(("unexpected end", "truncated")):
        reason = f"{reason}, at byte {size}"
    return f"{tar} is cut off, damaged, sparse or compressed ({reason}): tars must be whole and plain"


def format_index(members: Sequence[Member]) -> bytes:
    """An index in DALI's format of members that belong to samples: a line a key, in the order of their first ones."""
    lines: dict[str, list[str]] = {}
    blanks = any(len(member.name.split()) != 1 for member in members)
    for name, offset, size in members:
        key, component = split_name(name)
        shown = [quote(text, errors="surrogateescape") if blanks else text for text in (component, name)]
        lines.setdefault(key, []).append(f"{shown[0]} {offset} {size} {shown[1]}")
    text = [f"v1.2 {len(lines)}" + f" {_QUOTED}" * blanks, *(" ".join(line) for line in lines.values())]
    return ("\n".join(text) + "\n").encode("utf-8", "surrogateescape")
