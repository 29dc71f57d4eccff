"""The cache folder of this package: what can be made anew, kept for the next start."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from apr_dali.runtime.files import write_whole


def cached(kind: str, key: str, extension: str) -> Path:
    """The file of that kind for a key of any length: below `~/.cache/apr_dali`, or XDG_CACHE_HOME. Makes nothing."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
    return Path(root, "apr_dali", kind, f"{name}{extension}")


def keep(path: str | Path, content: bytes) -> bool:
    """Write a file whole, with its folder; False where nothing can be written there."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_whole(path, content)
    except OSError:
        return False
    return True
