"""Names that no data set means: hidden ones, and what operating systems put into folders unasked."""

from __future__ import annotations

_CLUTTER = {"__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not to be looked at; @eaDir, for one, holds thumbnails."""
    return name.startswith(".") or name.lower() in _CLUTTER
