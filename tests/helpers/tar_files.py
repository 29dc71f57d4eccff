"""Tar files for the tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

Contents = Iterable[tuple[str, bytes]]


def pack(path: Path, members: Contents, form: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in members:
            add(archive, name, content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Append one file."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def samples(*keys: str, ext: str = "jpg") -> list[tuple[str, bytes]]:
    """An image (its content is its name) and a label each."""
    return [
        (f"{key}.{e}", f"{key}.{ext}".encode("utf-8", "surrogateescape") if e == ext else b"1\n")
        for key in keys
        for e in (ext, "cls")
    ]


def folder_of(root: Path, *tars: Contents, classes: str = "cat\ndog\n") -> Path:
    """A folder of tars 0.tar, 1.tar and so on with these members, and classes.txt."""
    for number, members in enumerate(tars):
        pack(root / f"{number}.tar", members)
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text(classes, encoding="utf-8")
    return root


def jpeg(index: int) -> bytes:
    """One gray level, which tells it apart however it is cropped."""
    buffer = io.BytesIO()
    Image.new("RGB", (40 + index, 60 - index), (index * 12,) * 3).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
