"""The images in class folders: listed, or as they were at an earlier start if no folder has changed since.

Adding, removing or renaming something changes its folder's time. What was listed within two seconds of such a change
is not kept, because a further change might not show in the time.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apr_dali.data.listing import walk
from apr_dali.runtime import cache

LEAST = 20_000
"""Images of a set whose listing is kept: of fewer it takes no time."""
_VERSION = 1
_UNSETTLED = 2.0
"""Seconds: the coarsest times of file systems in use."""


@dataclass(frozen=True)
class Listed:
    """The images below some folders in a folder.

    files: their paths, sorted within each of the folders. counts: images of each. unread: paths of image files of
    kinds that are not read.
    """

    files: tuple[str, ...]
    counts: tuple[int, ...]
    unread: tuple[str, ...]


def images_in(folder: str, directories: Sequence[str], cached: bool = True) -> Listed:
    """The images below each of the `directories` in `folder`, an absolute path.

    cached: False lists them, whatever an earlier start has kept.

    Raises InputError as `apr_dali.data.listing.walk` does.
    """
    kept = _kept(folder, directories) if cached else None
    if kept is not None:
        return kept
    started = time.time()
    found = [walk(os.path.join(folder, name)) for name in directories]
    listed = Listed(
        tuple(file for one in found for file in one.images),
        tuple(len(one.images) for one in found),
        tuple(file for one in found for file in one.unread),
    )
    if len(listed.files) >= LEAST:
        _keep(folder, directories, listed, [path for one in found for path in one.folders], started)
    return listed


def _keep(folder: str, directories: Sequence[str], listed: Listed, walked: Sequence[str], started: float) -> None:
    times = dict(_times(walked))
    if max(time for time, _ in times.values()) > (started - _UNSETTLED) * 1e9:
        return
    start = len(os.path.join(folder, ""))
    # A path holds anything but this character.
    names = "\0".join(file[start:] for file in listed.files).encode("utf-8", "surrogateescape")
    head = {
        "version": _VERSION,
        "directories": list(directories),
        "counts": listed.counts,
        "times": times,
        "unread": listed.unread,
        "checksum": zlib.crc32(names),
    }
    cache.keep(_place(folder), json.dumps(head).encode() + b"\0" + names)


def _kept(folder: str, directories: Sequence[str]) -> Listed | None:
    """What an earlier start has kept, if it is still so."""
    try:
        content = _place(folder).read_bytes()
        end = content.index(b"\0")
        known: dict[str, Any] = json.loads(content[:end])
        names = memoryview(content)[end + 1 :]
        if (
            known["version"] != _VERSION
            or known["directories"] != list(directories)
            or known["checksum"] != zlib.crc32(names)
            or known["times"] != dict(_times(known["times"]))
        ):
            return None
    # It may be missing, damaged or of another version; a folder may be gone.
    except (OSError, ValueError, KeyError, TypeError):
        return None
    start = os.path.join(folder, "")
    # In one text, and parted once: a million joins take longer than all the rest.
    paths = start + str(names, "utf-8", "surrogateescape").replace("\0", "\0" + start)
    return Listed(tuple(paths.split("\0")), tuple(known["counts"]), tuple(known["unread"]))


def _times(folders: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    for folder in folders:
        state = os.stat(folder)
        yield folder, [state.st_mtime_ns, state.st_ino]


def _place(folder: str) -> Any:
    return cache.cached("listings", folder, ".txt")
