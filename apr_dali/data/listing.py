"""What lies in folders: images, further folders, and what no data set means."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from apr_dali.errors import InputError

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Extensions of image files that a set may hold and no pipeline here reads.
UNREAD = (
    *(".jp2", ".j2k", ".j2c", ".jpf", ".jpx", ".jxl", ".jfif", ".jpe", ".avif", ".heic", ".heif", ".gif", ".apng"),
    *(".tga", ".psd", ".pgm", ".pbm", ".pnm", ".pfm", ".exr", ".hdr", ".ico", ".dng", ".cr2", ".nef", ".svg"),
)

NOT_UTF8 = "has a name that is not UTF-8, which DALI cannot open (rename it)"
"""The reason that is given for such a file."""

_NAMED = 5
# What operating systems put into folders unasked.
_CLUTTER = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not to be looked at; @eaDir, for one, holds thumbnails."""
    return name.startswith(".") or name.lower() in _CLUTTER


def is_empty(folder: str | Path) -> bool:
    """Whether a folder has nothing that is to be looked at, as a new disk, which has lost+found."""
    return all(map(is_hidden, os.listdir(folder)))


def is_image(name: str) -> bool:
    """Whether a file of this name is an image that is read."""
    return name.lower().endswith(EXTENSIONS)


def is_utf8(name: str) -> bool:
    """Whether a name from the file system is text; Python has lone surrogates for the bytes that are not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def listing(folder: str) -> tuple[list[str], list[str]]:
    """The names of the files and of the folders in `folder`, each sorted, without hidden ones.

    Raises InputError if it cannot be listed, or for a link in it that leads nowhere.
    """
    files: list[str] = []
    directories: list[str] = []
    for entry in _entries(folder):
        (directories if _is_folder(entry) else files).append(entry.name)
    return sorted(files), sorted(directories)


class Walked(NamedTuple):
    """What is in a folder and its subfolders, sorted, without hidden ones.

    images: paths. unread: paths of files of UNREAD. folders: paths of all folders, `folder` itself among them.
    """

    images: list[str]
    unread: list[str]
    folders: list[str]


def images_below(folder: str) -> list[str]:
    """The paths of the images in `folder` and its subfolders, see `walk`."""
    return walk(folder).images


def walk(folder: str) -> Walked:
    """What is in `folder` and its subfolders.

    Raises InputError for what cannot be listed, for links that lead nowhere or back to a folder above them, and for
    what would be waited for when it is opened.
    """
    images: list[str] = []
    unread: list[str] = []
    folders: list[str] = []
    waiting = [folder]
    while waiting:
        folders.append(waiting.pop())
        for entry in _entries(folders[-1]):
            name = entry.name.lower()
            # The listing itself says the kind of an entry, but for links, which are followed for no image.
            if name.endswith(EXTENSIONS) and not entry.is_dir(follow_symlinks=False):
                if not (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                    raise InputError(f"{entry.path} is no file but a pipe, a socket or a device: remove it")
                images.append(entry.path)
            elif _is_folder(entry):
                if entry.is_symlink() and _leads_back(entry.path):
                    raise InputError(
                        f"{entry.path} is a link to a folder above it: its images would come again; remove it"
                    )
                waiting.append(entry.path)
            elif name.endswith(UNREAD):
                unread.append(entry.path)
    return Walked(sorted(images), sorted(unread), sorted(folders))


def warn_of_unread(files: Sequence[str]) -> None:
    """Name image files that are left out because they are of a kind that is not read."""
    if files:
        shown = ", ".join(files[:_NAMED]) + (f" and {len(files) - _NAMED} more" if len(files) > _NAMED else "")
        warnings.warn(
            f"left out {len(files)} image files of kinds that are not read ({', '.join(EXTENSIONS)} are): {shown}; "
            "save them as PNG or JPEG, or remove them",
            stacklevel=3,
        )


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder. Raises InputError for a link that leads nowhere: it may have been a class."""
    try:
        if entry.is_symlink():
            os.stat(entry.path)
        return entry.is_dir()
    except OSError as error:
        raise InputError(
            f"{entry.path} is a link that cannot be followed ({error.strerror}): repair or remove it"
        ) from error


def _leads_back(link: str) -> bool:
    target = os.path.realpath(link)
    return os.path.commonpath([target, os.path.realpath(os.path.dirname(link))]) == target
