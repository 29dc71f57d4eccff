"""Writing files whole or not at all, and the folders that they go to."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError


def write_whole(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, replacing what is there; whoever reads `path` sees the old file or the new one."""
    target = Path(path)
    # Beside the target: os.replace is atomic only within one file system.
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file for its owner alone; data sets are shared.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
