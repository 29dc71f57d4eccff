"""Which C++ sources there are, in one number: `setup.py` compiles it into the extension, which is asked for it here.

It imports nothing of the package: `setup.py` runs it where nothing is installed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def digest(folder: Path = FOLDER) -> str | None:
    """Of names and contents of all C++ files of `folder`; None where there are none, as in an installed package."""
    found = sorted(folder.glob("[!.]*.[ch]pp"))  # editors keep locks and copies as hidden files
    if not found:
        return None
    digest = hashlib.sha256()
    for path in found:
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
