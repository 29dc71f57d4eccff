"""Ten minutes of loaders: whether memory stays flat, and threads and files come back.

    make soak
    python benchmarks/soak.py --seconds 60

Rounds of whole epochs, loops left in mid-epoch, exceptions, loaders side by side and broken images that are skipped.
After each round the process must hold no more threads and files than before the first. Memory is read after each
round; it grows if the median of the last third of the readings is well above that of the middle third. Exit status 1
where something grows.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from tqdm import tqdm

from apr_dali import ImageNetLoader
from apr_dali.data.sample import write_sample

GROWTH = 0.05  # share of the memory; the allocator's own unrest is below
SETTINGS = {"batch_size": 32, "aug": "apr-sp", "image_size": 96, "threads": 2}


def held() -> dict[str, int]:
    """Threads and file descriptors of this process."""
    return {"threads": len(os.listdir("/proc/self/task")), "files": len(os.listdir("/proc/self/fd"))}


def megabytes() -> float:
    """Resident memory of this process, without what the C library only keeps for the next pipeline's threads."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def one_round(folder: Path, seed: int) -> int:
    """Every way in which loaders are used and left; the images read."""
    images = 0
    with ImageNetLoader(folder / "train", seed=seed, **SETTINGS) as loader:
        images += sum(len(targets) for _ in range(2) for _, targets in loader)
        state = loader.state_dict()
    abandoned = ImageNetLoader(folder / "train", seed=seed, **SETTINGS)
    abandoned.load_state_dict(state)
    images += len(next(iter(abandoned))[1])
    del abandoned
    options = SETTINGS | {"aug": "none"}
    try:
        with ImageNetLoader(folder / "train", **SETTINGS) as one, ImageNetLoader(folder / "val", **options) as two:
            for (_, targets), (_, others) in zip(one, two, strict=False):
                images += len(targets) + len(others)
                if images % 5 == 0:
                    raise InterruptedError
    except InterruptedError:
        pass
    with ImageNetLoader(folder / "broken", on_error="skip", **SETTINGS) as loader:
        images += sum(len(targets) for _, targets in loader)
    return images


def break_some(folder: Path) -> None:
    """folder/broken: the validation images, one of them cut short."""
    for path in sorted((folder / "val").rglob("*.jpg")):
        copy = folder / "broken" / path.relative_to(folder / "val")
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        copy.write_bytes(content[: len(content) // 2] if path.stem == "cat_003" else content)


def soak(seconds: float) -> tuple[dict[str, int], dict[str, int], list[tuple[float, float]], int]:
    """What was held before and at the end, (second, megabytes) of each round, and the images read."""
    warnings.filterwarnings("ignore", message="left out")
    tqdm.monitor_interval = 0  # a thread of its own
    readings: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_sample(Path(temporary) / "sample")
        break_some(folder)
        one_round(folder, 0)  # what libraries keep for good
        before, start, images = held(), time.monotonic(), 0
        with tqdm(total=round(seconds), desc="soak", unit="s", disable=None) as bar:
            while time.monotonic() - start < seconds:
                images += one_round(folder, len(readings))
                readings.append((time.monotonic() - start, megabytes()))
                bar.update(min(round(readings[-1][0]), bar.total) - bar.n)
        time.sleep(1)  # threads end a moment after the request
        return before, held(), readings, images


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long (default 600)")
    before, after, readings, images = soak(parser.parse_args().seconds)
    third = max(1, len(readings) // 3)
    memory = [value for _, value in readings]
    middle, last = np.median(memory[-2 * third : -third] or memory), np.median(memory[-third:])
    print(f"{len(readings)} rounds, {images} images in {readings[-1][0]:.0f} s")
    print(f"memory: {memory[0]:.0f} MB after the first round, {middle:.0f} MB in the middle, {last:.0f} MB at the end")
    for name, count in before.items():
        print(f"{name}: {count} before, {after[name]} after")
    bad = last > (1 + GROWTH) * middle or any(after[name] > before[name] for name in before)
    print("something grows" if bad else "nothing grows")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
