"""How long a data set of ImageNet's size takes to open, with how much memory, and whether a loader's memory stays flat.

    python benchmarks/large_folder.py
    python benchmarks/large_folder.py --images 10000 --epochs 0

Makes 1,000 class folders of hard links to a few small JPEG files in a scratch folder, which it removes at the end, and
opens them as a trainer does, each time in a process of its own:
- listed, as by `--no-cache`: at most 15 s and 1 GB are the goal;
- from the listing that an earlier start has kept: at most 2 s.
The system remembers the folders that were just made; `--drop`, as root, has it forget them before each time.

Then a loader reads the built-in sample for 100 epochs, and the memory of its process must stay flat: the exit status is
1 if the median of the last third of the epochs is above that of the middle third by 5 %.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from soak import GROWTH, megabytes
from tqdm import trange

CLASSES = 1000
MOST_LINKS = 50_000
"""To a file: ext4 has room for 65,000."""
OPEN = """
import re, sys, time
import apr_dali.data.folders as folders
def memory():  # what getrusage says begins with the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e6
before, start = memory(), time.perf_counter()
found = folders.open_set(sys.argv[1], cached=sys.argv[2] == "cached")
seconds = time.perf_counter() - start
print(f"{len(found)} images in {seconds:.2f} s; at most {memory():.2f} GB, of which {before:.2f} GB for modules")
"""


def make(root: Path, images: int) -> Path:
    """Class folders of so many images in all."""
    if os.statvfs(root).f_favail < 2 * CLASSES + images // MOST_LINKS:
        sys.exit(f"{root} has room for {os.statvfs(root).f_favail} files more (df -i): give another --scratch")
    folders = [root / f"set/n{number:08d}" for number in range(CLASSES)]
    for folder in folders:
        folder.mkdir(parents=True)
    for number in trange(images, desc="making", unit=" links", unit_scale=True, disable=None):
        source = root / f"file{number // MOST_LINKS}"
        if number % MOST_LINKS == 0:
            encoded = io.BytesIO()
            Image.fromarray(np.full((8, 8, 3), number // MOST_LINKS, np.uint8)).save(encoded, "JPEG")
            source.write_bytes(encoded.getvalue())
        # In turns, as no file system has them: names of a folder come from all over it.
        folder = folders[number % CLASSES]
        os.link(source, f"{folder}/{folder.name}_{number // CLASSES}.JPEG")
    return root / "set"


def opened(folder: Path, cache: Path, cached: bool, drop: bool) -> str:
    """What a process says that opens the set."""
    if drop:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
    command = [sys.executable, "-c", OPEN, str(folder), "cached" if cached else "anew"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def list_large(scratch: Path, images: int, drop: bool) -> None:
    """Make the set, open it in every way, remove it."""
    root = Path(tempfile.mkdtemp(prefix="large-folder-", dir=scratch))
    try:
        folder = make(root, images)
        time.sleep(3)  # what was changed just now is not kept
        for told, cached in (("listed", False), ("kept", True), ("kept", True)):
            print(f"{told}: {opened(folder, root / 'cache', cached, drop)}")
    finally:
        shutil.rmtree(root)


def read_sample(epochs: int) -> bool:
    """Whether the memory of this process stays flat while a loader reads the sample."""
    from apr_dali import ImageNetLoader
    from apr_dali.data.sample import write_sample

    memory = []
    with tempfile.TemporaryDirectory() as folder:
        images = write_sample(folder) / "train"
        with ImageNetLoader(images, batch_size=32, aug="apr-sp", image_size=64, threads=2) as loader:
            for _ in trange(epochs, desc="reading", unit=" epochs", disable=None):
                for _ in loader:
                    pass
                memory.append(megabytes())
    third = max(1, epochs // 3)
    middle, last = (statistics.median(part) for part in (memory[third : 2 * third] or memory, memory[-third:]))
    print(
        f"{epochs} epochs: {memory[0]:.0f} MB after the first, {middle:.0f} MB in the middle, {last:.0f} MB at the end"
    )
    return last <= middle * (1 + GROWTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1_300_000, help="0 leaves this out (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=100, help="of the sample (default: %(default)s)")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="(default: %(default)s)")
    parser.add_argument("--drop", action="store_true", help="drop the system's caches before each opening; as root")
    args = parser.parse_args()
    if args.images:
        list_large(args.scratch, args.images, args.drop)
    if args.epochs and not read_sample(args.epochs):
        sys.exit("the memory grows")


if __name__ == "__main__":
    main()
