"""What the benchmarks of corruptions compare with: sets as the library imagecorruptions-imaug makes them."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from imagecorruptions import corrupt
from PIL import Image
from skimage import data

from apr_dali.corruptions import CORRUPTIONS
from apr_dali.corruptions.parameters import SEVERITIES
from apr_dali.data.imagenet_c import as_jpeg, cropped

CLASSES = ("one", "other")
SIDE = 224


def write_photographs(folder: Path, count: int) -> None:
    """`count` JPEG files of 256 × 256, cut from photographs."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(photo) for photo in (data.astronaut(), data.coffee(), data.chelsea())]
    for index in range(count):
        photo = photographs[index % len(photographs)]
        left, top = (int(rng.integers(side - 256 + 1)) for side in photo.size)
        path = folder / CLASSES[index % 2] / f"{index:05d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.crop((left, top, left + 256, top + 256)).save(path, quality=95)


def write_by_library(val: Path, target: Path) -> None:
    """The 15 corruptions at five severities as make-c wrote them before it had its own: cut, corrupted, as JPEG."""
    cv2.setNumThreads(1)
    for file in sorted(val.glob("*/*")):
        image = cropped(str(file), SIDE)
        for name in CORRUPTIONS:
            for severity in SEVERITIES:
                path = target / name / str(severity) / file.parent.name / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(as_jpeg(corrupt(image, severity=severity, corruption_name=name)))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of CPU time of this process and its children, and what `work` gives."""
    before = _cpu_seconds()
    found = work()
    return _cpu_seconds() - before, found


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
