"""What `make-c` costs beside the library imagecorruptions-imaug, which it took before: 15 corruptions × 5 severities.

    OMP_NUM_THREADS=1 python benchmarks/make_c.py --scratch /dev/shm

In turns, on one core, the same photographs are written by the library with Pillow, by `make-c` into class folders, and
by `make-c` into tars. The goal is ten times the images a second of CPU time. To make a file costs a few hundredths of a
millisecond in a file system in memory and up to a third of one in others, for all but the tars.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from by_library import SIDE, timed, write_by_library, write_photographs

from apr_dali import CorruptionDraws, corrupt
from apr_dali.corruptions import CORRUPTIONS
from apr_dali.corruptions.parameters import SEVERITIES
from apr_dali.data.imagenet_c import as_jpeg, cropped
from apr_dali.data.make_c import make_c

LIBRARY = "the library"


def parts_of(val: Path) -> dict[str, float]:
    """Milliseconds of CPU time an image of what has to be done, without the files."""
    files = sorted(val.glob("*/*"))[:16]
    spent = dict.fromkeys(("decoding and cutting", "corrupting", "encoding"), 0.0)
    spent["decoding and cutting"], images = timed(lambda: np.stack([cropped(str(file), SIDE) for file in files]))
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            draws = CorruptionDraws.sample(name, severity, len(images), SIDE, SIDE, seed=0)
            seconds, made = timed(partial(corrupt, images, name, severity, draws, threads=1))
            spent["corrupting"] += seconds
            spent["encoding"] += timed(partial(encode, made))[0]
    return {name: 1000 * seconds / len(files) for name, seconds in spent.items()}


def encode(images: np.ndarray) -> None:
    for image in images:
        as_jpeg(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=32, metavar="N", help="of a turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--scratch", metavar="DIR", help="where the sets are written (default: the system's)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        val, target = Path(scratch, "val"), Path(scratch, "c")
        write_photographs(val, args.images)
        writers: dict[str, Callable[[], object]] = {
            LIBRARY: partial(write_by_library, val, target),
            "make-c": partial(make_c, val, target),
            "make-c, tars": partial(make_c, val, target, image_format="webdataset"),
        }
        make_c(val, Path(scratch, "first"))  # what is made once is made
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(args.rounds):
            for name, write in writers.items():
                seconds[name].append(timed(write)[0])
                shutil.rmtree(target)
        parts = parts_of(val)
    print(f"{args.images} images × 75 cells, {args.rounds} rounds, CPU time, medians")
    usual = statistics.median(seconds[LIBRARY])
    for name, found in seconds.items():
        median = statistics.median(found)
        rate, each = args.images / median, 1000 * median / args.images
        print(f"{name:<14}{rate:>8.2f} images a second, {each:>7.1f} ms an image, {usual / median:>5.1f} times")
    print("what make-c has to do, ms an image: " + ", ".join(f"{name} {value:.1f}" for name, value in parts.items()))


if __name__ == "__main__":
    main()
