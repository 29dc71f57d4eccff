"""What an evaluation under the 15 corruptions × 5 severities costs: on the fly, and by a set on disk of the library.

    OMP_NUM_THREADS=1 python benchmarks/on_the_fly.py

Both begin with the same photographs and end with the errors of the same small network. On disk: the images are cut,
imagecorruptions-imaug makes each cell, JPEG files of quality 85 are written, and `eval corruption --data` reads them.
The times are CPU time of this process and its children; the goal is 8 times less on the fly. The corruptions that the
library makes are not all those of ImageNet-C: the errors are near each other and not equal.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from imagecorruptions import corrupt
from PIL import Image
from skimage import data
from torch import nn

from apr_dali.corruptions import CORRUPTIONS
from apr_dali.corruptions.parameters import SEVERITIES
from apr_dali.data.imagenet_c import as_jpeg, cropped
from apr_dali.eval import evaluate_corruption, evaluate_corruption_on_the_fly
from apr_dali.models import create_model

CLASSES = ("one", "other")
SIDE = 224


def write_photographs(folder: Path, count: int) -> None:
    """`count` JPEG files, cut from photographs."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(photo) for photo in (data.astronaut(), data.coffee(), data.chelsea())]
    for index in range(count):
        photo = photographs[index % len(photographs)]
        left, top = (int(rng.integers(side - 256 + 1)) for side in photo.size)
        path = folder / CLASSES[index % 2] / f"{index:05d}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.crop((left, top, left + 256, top + 256)).save(path, quality=95)


def write_by_library(val: Path, target: Path) -> None:
    """The corrupted images as the library makes them."""
    cv2.setNumThreads(1)
    for file in sorted(val.glob("*/*")):
        image = cropped(str(file), SIDE)
        for name in CORRUPTIONS:
            for severity in SEVERITIES:
                path = target / name / str(severity) / file.parent.name / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(as_jpeg(corrupt(image, severity=severity, corruption_name=name)))


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of CPU time, and what `work` gives."""
    before = cpu_seconds()
    found = work()
    return cpu_seconds() - before, found


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=200, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--model", default="squeezenet1_1", help="(default: %(default)s)")
    args = parser.parse_args()
    model: nn.Module = create_model(args.model, len(CLASSES)).eval()
    seen: dict[str, Any] = {"classes": CLASSES, "image_size": SIDE, "device": "cpu", "threads": 1, "batch_size": 50}
    with tempfile.TemporaryDirectory() as scratch:
        val, corrupted = Path(scratch, "val"), Path(scratch, "c")
        write_photographs(val, args.images)
        evaluate_corruption_on_the_fly(model, val, images=1, **seen)  # what is made once is made
        computing, computed = timed(lambda: evaluate_corruption_on_the_fly(model, val, **seen))
        writing, _ = timed(lambda: write_by_library(val, corrupted))
        reading, read = timed(lambda: evaluate_corruption(model, corrupted, **seen))
    print(f"{args.images} images × 75 cells, {args.model}, CPU seconds")
    print(f"on the fly {computing:.1f}, mean error {computed.mean_error:.4f}")
    print(f"on disk {writing + reading:.1f}: written in {writing:.1f}, read in {reading:.1f}, {read.mean_error:.4f}")
    print(f"on disk / on the fly: {(writing + reading) / computing:.1f}")


if __name__ == "__main__":
    main()
