"""Writing files whole or not at all, and the folders that they go to."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError

Content = bytes | Callable[[BinaryIO], object]
"""The bytes of a file, or what writes them to it."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ENOENT, errno.EEXIST)


def write_whole(
    path: str | Path, content: Content, *, keep: Path | None = None, alone: bool = False, synced: bool = True
) -> None:
    """Write `content` to `path`, replacing what is there: a reader finds the old file or the whole new one.

    The bytes go to a temporary file beside it and are on the disk before it takes its name. An OSError names a file.

    keep: a name that the former file takes first; a crash between the two renamings leaves it there.
    alone: no other process writes this file. What a crash leaves of a temporary file is then overwritten the next time,
        and the renaming is on the disk too when this returns.
    synced: False does not wait for the disk, as for many small files: whole however the process ends, but a machine
        that loses its power may leave a part.
    """
    # Names are put together as text: for small files those of pathlib take a part of the time.
    target = os.fspath(path)
    temporary = _temporary_of(target) if alone else str(_new_beside(Path(target)))
    try:
        with open(temporary, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        if keep is not None and os.path.exists(target):
            os.replace(target, keep)
        os.replace(temporary, target)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = target  # writing itself does not say what it wrote
        raise
    if alone and synced:
        sync(Path(target).parent)


def _temporary_of(target: str | Path) -> str:
    """Where the bytes of a file go first that no other process writes."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name}.tmp")


def _new_beside(target: Path) -> Path:
    """An empty file of a name that nobody else has; os.replace is atomic only within one file system."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes the file for its owner alone; data sets are shared.
    temporary.chmod(0o666 & ~_umask())
    return temporary


@contextmanager
def writing_to(target: Path) -> Iterator[None]:
    """Say what to do where `target`, or what is in it, cannot be written: InputError instead of OSError."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            remedy = "make room and run the same command, which goes on"
        elif error.errno == errno.EFBIG:
            remedy = "the file system, or a limit (ulimit -f), allows none of that size; give another folder"
        elif error.errno in _CLOSED and _is_below(error.filename, target):
            remedy = "nothing can be written there; give another folder"
        else:
            raise
        raise InputError(f"{target}: {os.strerror(error.errno)}: {remedy}") from error


def _is_below(path: object, target: Path) -> bool:
    """Whether it is the path of `target`, of a folder that it is to be made in, or of something in it."""
    if not isinstance(path, (str, os.PathLike)):
        return False
    at = Path(os.path.abspath(path))
    return at == target or target in at.parents or at in target.parents


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def make_output(output: str | Path) -> Path:
    """The folder `output`, made if it is not there; InputError where it cannot be."""
    path = Path(output)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}; give another --output") from error
    return path


def _umask() -> int:
    # The only way to read the mask is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Put what a file or a folder holds on the disk: a renaming is there only when the folder is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
