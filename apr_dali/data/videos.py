"""Short videos in class folders, as ImageNet-P has them: `<perturbation>/<class>/<video>.mp4`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from apr_dali.data.listing import listing
from apr_dali.errors import InputError, install_command

ENDING = ".mp4"


@dataclass(frozen=True)
class Videos:
    """The videos of a set by their perturbation: absolute paths, sorted by class and name."""

    files: dict[str, tuple[str, ...]]

    @property
    def identity(self) -> str:
        """16 hex digits of the names and sizes of all files: a copy has the same."""
        digest = hashlib.sha256()
        for name, files in self.files.items():
            for file in files:
                path = Path(file)
                said = f"{name}/{path.parent.name}/{path.name} {path.stat().st_size}\n"
                digest.update(said.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def find_videos(root: str | Path) -> Videos:
    """Every folder of `root` whose folders hold .mp4 files. Raises InputError where there is none, or one is empty."""
    root = os.path.abspath(root)
    if not os.path.isdir(root):
        raise InputError(f"{root} is not there: expected a folder with <perturbation>/<class>/<video>{ENDING}")
    found = {}
    for name in listing(root)[1]:
        files = []
        for label in listing(os.path.join(root, name))[1]:
            folder = os.path.join(root, name, label)
            files += [os.path.join(folder, file) for file in listing(folder)[0] if file.lower().endswith(ENDING)]
        if files:
            found[name] = tuple(sorted(files))
    if not found:
        raise InputError(
            f"{root} holds no videos: expected <perturbation>/<class>/<video>{ENDING}, "
            f"got {', '.join(listing(root)[1][:5]) or 'nothing'}"
        )
    return Videos(found)


def check_reader() -> None:
    """Raise InputError where OpenCV, which reads videos, is not installed."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise InputError(f"videos are read by OpenCV, which is not installed: {install_command('eval')}") from error


def frames_of(file: str, size: int) -> NDArray[np.uint8]:
    """All frames of a video, their middle size × size pixels: uint8 (frames, size, size, 3), RGB.

    Raises InputError for a file that is no video, or one with smaller frames.
    """
    import cv2

    capture = cv2.VideoCapture(file)
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            break
        top, left = ((side - size) // 2 for side in frame.shape[:2])
        if min(top, left) < 0:
            raise InputError(
                f"{file} has frames of {frame.shape[1]}×{frame.shape[0]} pixels: expected at least {size} per side, as "
                "they are cut but not resized; give a smaller --image-size"
            )
        frames.append(frame[top : top + size, left : left + size, ::-1])
    capture.release()
    if len(frames) < 2:
        raise InputError(f"{file} has {len(frames)} frames that can be read: expected a video of two or more")
    return np.ascontiguousarray(np.stack(frames))
