"""How fast `apr-dali prepare` is beside what it cannot do without.

    python benchmarks/prepare.py --count 5000

Writes JPEG files in class folders, and times, in turns:
- `tar` on these files and `prepare --format webdataset`, both until all of it is on the disk. The goal is at least
  60 % of tar's speed.
- decoding and encoding with Pillow, which is libjpeg-turbo, and `prepare --max-side 500` of the same files, on one core
  each: the least of the processor's time. The goal is at least 80 % of the speed of the two together; scaling comes on
  top of them.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, features

from apr_dali.data.prepare.images import smaller
from apr_dali.data.prepare.job import Options, prepare
from apr_dali.runtime import cpus

CLASSES = 10
GRAIN = 8.0
"""Standard deviation of the noise in the photographs, in levels. With it they take over half a byte a pixel, as
ImageNet's files do; without it, scaled up as they are, half of that, and are decoded in half the time."""
MAX_SIDE, QUALITY = 500, 90


def write_photos(folder: Path, count: int, width: int, height: int) -> None:
    """`count` JPEG files of quality 95, cut from photographs that are scaled to twice the size and given grain."""
    # Not above: processes that `prepare` starts import this module.
    from skimage import data

    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in (data.astronaut(), data.coffee(), data.chelsea())]
    photos = [photo.resize((2 * width, 2 * height)) for photo in photos]
    for number in range(count):
        left, top = int(rng.integers(width + 1)), int(rng.integers(height + 1))
        path = folder / "train" / f"class{number % CLASSES}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(photos[number % 3].crop((left, top, left + width, top + height)))
        grain = rng.normal(0, GRAIN, (height, width, 1))
        Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(path, "JPEG", quality=95)


def seconds(work: Callable[[], object]) -> float:
    """Seconds that something takes, until what it wrote is on the disk."""
    os.sync()
    start = time.perf_counter()
    work()
    os.sync()
    return time.perf_counter() - start


def pack(source: Path, place: Path, processes: int) -> tuple[float, float]:
    """Seconds of `tar` and of `prepare`."""
    by_tar = seconds(lambda: subprocess.run(["tar", "cf", place / "a.tar", "-C", source, "train"], check=True))
    ours = seconds(lambda: prepare(source, place / "out", Options("webdataset"), processes))
    (place / "a.tar").unlink()
    shutil.rmtree(place / "out")
    return by_tar, ours


def processor_seconds(work: Callable[[], object]) -> float:
    """Seconds of one core that something takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def encode_again(files: list[bytes]) -> tuple[float, float]:
    """Seconds of decoding the images and encoding the smaller ones, and of `smaller`, on one core."""
    made = [smaller(content, "jpg", MAX_SIDE, QUALITY)[0] for content in files]
    decoded = [Image.open(io.BytesIO(content)).convert("RGB") for content in made]

    def plain() -> None:
        for content, image in zip(files, decoded, strict=True):
            Image.open(io.BytesIO(content)).load()
            image.save(io.BytesIO(), "JPEG", quality=QUALITY)

    def ours() -> None:
        for content in files:
            smaller(content, "jpg", MAX_SIDE, QUALITY)

    return processor_seconds(plain), processor_seconds(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000, help="images (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--processes", type=int, default=cpus.usable(), help="of prepare (default: %(default)s)")
    parser.add_argument("--side", type=int, nargs=2, default=(640, 480), help="of the images (default: 640 480)")
    args = parser.parse_args()
    print(f"Pillow with libjpeg-turbo: {features.check_feature('libjpeg_turbo')}; {args.side[0]}×{args.side[1]} pixels")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        write_photos(place / "source", args.count, *args.side)
        packed = [pack(place / "source", place, args.processes) for _ in range(args.rounds)]
        files = [path.read_bytes() for path in sorted((place / "source").rglob("*.jpg"))[: args.count // 10 + 1]]
        again = [encode_again(files) for _ in range(args.rounds)]
    size = sum(map(len, files)) / len(files) / (args.side[0] * args.side[1])
    print(f"{size:.2f} bytes a pixel")
    report("tar", packed, args.count, statistics.median)
    report("decode + encode", again, len(files), min)


def report(
    told: str, rounds: list[tuple[float, float]], images: int, chosen: Callable[[tuple[float, ...]], float]
) -> None:
    """Print images per second of both, and the second's share of the first's speed; of the rounds too."""
    theirs, ours = (chosen(times) for times in zip(*rounds, strict=True))
    shares = sorted(first / second for first, second in rounds)
    print(
        f"{told}: {images / theirs:.0f} images/s, prepare: {images / ours:.0f} images/s, "
        f"{theirs / ours:.0%} of the speed ({shares[0]:.0%} to {shares[-1]:.0%})"
    )


if __name__ == "__main__":
    main()
