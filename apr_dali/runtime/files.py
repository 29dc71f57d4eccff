"""Writing files whole or not at all, and the folders that they go to."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError

Content = bytes | Callable[[BinaryIO], object]
"""The bytes of a file, or what writes them to it."""


def write_whole(path: str | Path, content: Content, *, keep: Path | None = None, alone: bool = False) -> None:
    """Write `content` to `path`, replacing what is there: a reader finds the old file or the whole new one.

    The bytes go to a temporary file beside it and are on the disk before it takes its name.

    keep: a name that the former file takes first; a crash between the two renamings leaves it there.
    alone: no other process writes this file. What a crash leaves of a temporary file is then overwritten the next time,
        and the renaming is on the disk too when this returns.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.tmp") if alone else _new_beside(target)
    try:
        with open(temporary, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and target.exists():
            os.replace(target, keep)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if alone:
        _sync_folder(target.parent)


def _new_beside(target: Path) -> Path:
    """An empty file of a name that nobody else has; os.replace is atomic only within one file system."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes the file for its owner alone; data sets are shared.
    temporary.chmod(0o666 & ~_umask())
    return temporary


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


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


def _sync_folder(folder: Path) -> None:
    # A renaming is on the disk only when the folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
