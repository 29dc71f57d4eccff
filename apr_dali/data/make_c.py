"""Writing a set like ImageNet-C: the corruptions of the `imagecorruptions` package on images of one's own.

Against the published set, 13 of the 15 corruptions agree within 2 grey levels; elastic_transform and frost differ.
"""

from __future__ import annotations

import io
import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from apr_dali.data.corruption_sets import MARKER, SEVERITIES
from apr_dali.data.folders import open_files
from apr_dali.data.image_file import open_image
from apr_dali.errors import InputError, install_command
from apr_dali.runtime.files import write_whole
from apr_dali.runtime.pool import process_map

QUALITY = 85
"""Of the JPEG files, as in ImageNet-C."""
_SEEDED = ("impulse_noise", "glass_blur")
"""These draw from a seed of their own, the others from NumPy's global generator."""
_SMALLEST = 32
_NAMED = 5  # pairs that an error lists


@dataclass(frozen=True)
class _Job:
    root: str
    target: str
    corruptions: tuple[str, ...]
    image_size: int
    seed: int


def make_c(
    source: str | Path,
    target: str | Path,
    corruptions: Sequence[str] | None = None,
    image_size: int = 224,
    seed: int = 0,
    processes: int = 1,
) -> Path:
    """Write `target/<corruption>/<1-5>/<class>/<name>.JPEG` for every image of `source`; return `target`'s path.

    Each image is resized (shorter side 8/7 of `image_size`) and centre-cropped first. What is there already is kept:
    a stopped call goes on with the same arguments. The same seed gives the same files, in any number of processes.

    Args:
        source: a folder of class folders. corruptions: names, None for the 15 of ImageNet-C. image_size: pixels, at
        least 32.

    Raises:
        InputError: for an unknown corruption, a folder that holds something else, two images that would have one name,
        or a broken image, by its path.
    """
    names = _known(corruptions)
    if image_size < _SMALLEST:
        raise InputError(f"--image-size must be at least {_SMALLEST} for these corruptions, got {image_size}")
    if os.path.isfile(source):
        raise InputError(f"{source} is a file list: make-c takes a folder of class folders")
    found = open_files(source, "make-c")
    _check_names(os.path.abspath(source), found.files)
    target = Path(target).absolute()
    settings = {"corruptions": names, "image_size": image_size, "seed": seed, "quality": QUALITY}
    _begin(target, settings)
    job = _Job(os.path.abspath(source), str(target), tuple(names), image_size, seed)
    bar = tqdm(total=len(found), desc="make-c", unit=" images", disable=None)
    with bar, process_map(processes, "corrupting") as mapped:
        for problem in mapped(partial(_corrupt_image, job), found.files):
            if problem is not None:
                raise InputError(problem)
            bar.update()
    _mark(target, settings, finished=True)
    return target


def _known(corruptions: Sequence[str] | None) -> list[str]:
    try:
        from imagecorruptions import get_corruption_names
    except ImportError as error:
        raise InputError(f"make-c needs imagecorruptions-imaug: {install_command('eval')}") from error
    every = get_corruption_names("all")
    unknown = [name for name in corruptions or () if name not in every]
    if unknown:
        raise InputError(f"unknown corruption {', '.join(unknown)}: expected some of {', '.join(every)}")
    return list(corruptions or get_corruption_names("common"))


def _name(root: str, file: str) -> Path:
    """What the corrupted versions of `file` are called below the folder of each severity."""
    return Path(file).relative_to(root).with_suffix(".JPEG")


def _check_names(root: str, files: Sequence[str]) -> None:
    """Raise InputError if two files would be written as one."""
    first: dict[Path, str] = {}
    pairs = []
    for file in files:
        other = first.setdefault(_name(root, file), file)
        if other != file:
            pairs.append(f"{os.path.relpath(other, root)} and {os.path.relpath(file, root)}")
    if pairs:
        raise InputError(
            f"{root} has {len(pairs)} images that differ from another in their extension alone, and all would be "
            f"written as .JPEG: {'; '.join(pairs[:_NAMED])}{' …' if len(pairs) > _NAMED else ''}; rename them"
        )


def _begin(target: Path, settings: dict[str, Any]) -> None:
    """Make the folder, or see that it holds an unfinished call's work of the same settings."""
    marker = target / MARKER
    if marker.is_file():
        found = json.loads(marker.read_text(encoding="utf-8"))["settings"]
        if found != settings:
            raise InputError(f"{target} was made with other settings: expected {settings}, got {found}; give a new one")
        return
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} is not empty and no set of make-c: give a new folder")
    target.mkdir(parents=True, exist_ok=True)
    _mark(target, settings, finished=False)


def _mark(target: Path, settings: dict[str, Any], finished: bool) -> None:
    write_whole(target / MARKER, json.dumps({"settings": settings, "finished": finished}).encode())


def _corrupt_image(job: _Job, file: str) -> str | None:
    """Write what is missing of one image's corruptions; the reason why that cannot be done, or None."""
    name = _name(job.root, file)
    waiting = [
        (corruption, severity, path)
        for corruption in job.corruptions
        for severity in range(1, SEVERITIES + 1)
        if not (path := Path(job.target, corruption, str(severity), name)).exists()
    ]
    if not waiting:
        return None
    try:
        pixels = _crop(file, job.image_size)
    except InputError as error:
        return f"{error}: remove it"
    for corruption, severity, path in waiting:
        # By name, so that neither the order of the images nor the number of processes matters.
        draw = zlib.crc32(f"{job.seed}/{corruption}/{severity}/{name.as_posix()}".encode())
        encoded = io.BytesIO()
        Image.fromarray(corrupted(pixels, corruption, severity, draw)).save(encoded, "JPEG", quality=QUALITY)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, encoded.getvalue())
    return None


def corrupted(pixels: np.ndarray, corruption: str, severity: int, seed: int) -> np.ndarray:
    """One corruption of an image: uint8 (H, W, 3) to the same, 0..255, at least 32 pixels a side."""
    from imagecorruptions import corrupt

    before = np.random.get_state()
    np.random.seed(seed)
    try:
        own = {"seed": seed} if corruption in _SEEDED else {}
        return corrupt(pixels, severity=severity, corruption_name=corruption, **own)
    finally:
        np.random.set_state(before)


def _crop(file: str, size: int) -> np.ndarray:
    from torchvision.transforms.v2 import functional

    return np.array(functional.center_crop(functional.resize(open_image(file), [round(size * 8 / 7)]), [size]))
