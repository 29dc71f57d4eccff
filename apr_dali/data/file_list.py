"""File lists: text that stands in for a folder of images, one path a line.

    # apr_dali file list
    # root: /data/imagenet
    # split: train
    # split: val
    # class: cat
    # class: dog
    train/cat/1.jpg
    val/dog/7.jpg

The classes are those of the folder when the list was written, whether or not any of their images are listed: labels
do not shift when a bad file is left out. `# split:` lines say that the root holds splits; without them it holds the
class folders themselves, and an entry reads `cat/1.jpg`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from apr_dali.errors import InputError
from apr_dali.runtime.files import write_whole

MAGIC = "# apr_dali file list"


@dataclass(frozen=True)
class FileList:
    """What a file list says.

    root: absolute path of the folder that the entries are relative to.
    classes: names, a label is an index into them.
    splits: the folders of the root that hold class folders; empty when the root does.
    entries: paths relative to the root, `split/class/…/file` or `class/…/file`, with `/`.
    """

    root: str
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    entries: tuple[str, ...]

    def below(self, split: str | None) -> list[tuple[str, str]]:
        """(class name, absolute path) of the entries of `split`, in their order.

        Raises InputError where the list has no such split, an entry names no listed class, or nothing is left.
        """
        self._check_split(split)
        prefix = f"{split}/" if self.splits else ""
        known = set(self.classes)
        found = []
        for entry in self.entries:
            if entry.startswith(prefix):
                name, slash, _ = entry[len(prefix) :].partition("/")
                if not slash or name not in known:
                    raise InputError(
                        f"file list of {self.root}: the entry {entry!r} lies in no listed class; "
                        "write the list again with `apr-dali check-data DIR --write-file-list FILE`"
                    )
                found.append((name, os.path.join(self.root, entry)))
        if not found:
            raise InputError(f"file list of {self.root}: no entries{f' below {prefix}' if prefix else ''}")
        return found

    def _check_split(self, split: str | None) -> None:
        if self.splits and split not in self.splits:
            raise InputError(
                f"file list of {self.root}: it holds the splits {', '.join(self.splits)}, "
                f"{'and none was chosen' if split is None else f'not {split!r}'}"
            )
        # A list of one split folder may be asked for as that split, never as another: it would be tested on
        # what it was trained on.
        if not self.splits and split is not None and os.path.basename(self.root) != split:
            raise InputError(
                f"file list of {self.root}: expected splits, {split!r} among them, got a list of one folder; "
                f"write it from the folder that holds {split}/"
            )


def write_file_list(path: str | Path, listing: FileList) -> None:
    """Write `listing` to `path`, whole or not at all.

    Raises InputError for a name that a line cannot hold.
    """
    header = [MAGIC, f"# root: {listing.root}"]
    header += [f"# split: {name}" for name in listing.splits]
    header += [f"# class: {name}" for name in listing.classes]
    lines = [*header, *listing.entries]
    for line in lines:
        if "\n" in line or "\r" in line:
            raise InputError(f"a file list cannot hold a name with a line break: rename {line!r}")
    for entry in listing.entries:
        if entry.startswith("#"):
            raise InputError(f"a file list cannot hold a path that starts with '#': rename {entry!r}")
    write_whole(path, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))


def read_file_list(path: str | Path) -> FileList:
    """Read the file list `path`. Raises InputError where it is none or its root is no longer there."""
    # With or without the mark that some editors put at the beginning.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
        if file.readline(len(MAGIC) + 2).rstrip() != MAGIC:
            raise InputError(
                f"{path} is a file, but not a file list (its first line must be {MAGIC!r}): "
                "give a folder of class folders, a folder of tar files, or a file list"
            )
        lines = [line.rstrip("\r\n") for line in file]
    header = [line for line in lines if line.startswith("#")]
    roots = _values(header, "root")
    listing = FileList(
        root=roots[0] if roots else "",
        classes=tuple(_values(header, "class")),
        splits=tuple(_values(header, "split")),
        entries=tuple(line for line in lines if line and not line.startswith("#")),
    )
    _check(path, listing)
    return listing


def _values(header: Iterable[str], key: str) -> list[str]:
    prefix = f"# {key}: "
    return [line[len(prefix) :] for line in header if line.startswith(prefix)]


def _check(path: str | Path, listing: FileList) -> None:
    again = "write it again with `apr-dali check-data DIR --write-file-list FILE`"
    if not os.path.isabs(listing.root):
        raise InputError(
            f"{path}: expected '# root: ' and an absolute path in the header, got {listing.root!r}; {again}"
        )
    if not listing.classes:
        raise InputError(f"{path}: expected '# class: NAME' lines in the header, got none; {again}")
    if len(set(listing.classes)) != len(listing.classes):
        raise InputError(f"{path}: a class is named twice in the header; {again}")
    if not os.path.isdir(listing.root):
        raise InputError(
            f"{path}: its root {listing.root} is not there; if the data moved, correct the '# root: ' line"
        )
