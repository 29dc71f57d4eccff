"""What a training loader delivers and costs on this machine: torchvision's DataLoader, and DALI with each augmentation.

    python benchmarks/loader.py                       # ImageNet-like JPEGs made for the run, 2 workers or threads
    python benchmarks/loader.py --data /path/imagenet/train --threads 8 --images 20000 --json loader.json

Every measurement is a process of its own that reads the same JPEGs, warms up and then loads a number of batches.
The rows take turns for some rounds; the table gives medians over the rounds, so that a busy moment of the machine
hits all rows alike. CPU ms counts all threads and workers; memory is the peak of the process and its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROWS = {
    "torchvision DataLoader": None,
    "DALI none": "none",
    "DALI apr-p": "apr-p",
    "DALI apr-s": "apr-s",
    "DALI apr-sp": "apr-sp",
}
BATCH, SIZE, WARM_UP = 32, 224, 2


def main() -> None:
    options = parse()
    if options.row is not None:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or make_images(Path(folder), options.images)
        rounds = [{row: in_own_process(row, data, options) for row in ROWS} for _ in range(options.rounds)]
    result = {"machine": machine(options), "rows": {row: median([r[row] for r in rounds]) for row in ROWS}}
    print(table(result))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="a folder of class folders; default: JPEGs of 500 × 375 made for the run")
    parser.add_argument("--images", type=int, default=640, help="images to load in a measurement (default: 640)")
    parser.add_argument("--threads", type=int, default=2, help="DALI's threads, DataLoader's workers (default: 2)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="of the DALI rows (default: cpu)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each row (default: 5)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE too")
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_images(folder: Path, count: int) -> str:
    """JPEGs of ImageNet's most common size, about 100 kB each, from the photographs of scikit-image."""
    from skimage import data

    photos = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    rng = np.random.default_rng(0)
    for name in ("even", "odd"):
        (folder / name).mkdir()
    for index in range(min(count, 640)):
        photo = photos[index % len(photos)]
        height = int(rng.integers(200, 290))
        width = height * 4 // 3
        y, x = rng.integers(photo.shape[0] - height + 1), rng.integers(photo.shape[1] - width + 1)
        crop = Image.fromarray(photo[y : y + height, x : x + width]).resize((500, 375), Image.Resampling.BICUBIC)
        crop.save(folder / ("even", "odd")[index % 2] / f"{index:04d}.jpg", quality=96)
    return str(folder)


def in_own_process(row: str, data: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--row", row, "--data", data, "--images", str(options.images)]
    command += ["--threads", str(options.threads), "--device", options.device]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> dict[str, float]:
    aug = ROWS[options.row]
    loader = data_loader(options) if aug is None else dali_loader(options, aug)
    batches = forever(loader)
    for _ in range(WARM_UP):
        next(batches)
    wall, cpu, images = time.perf_counter(), cpu_seconds(), 0
    while images < options.images:
        views, _ = next(batches)
        images += len(views) // getattr(loader, "views", 1)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {"images/s": images / wall, "CPU ms/image": 1000 * cpu / images, "peak MiB": peak_mib()}


def forever(loader: Any) -> Any:
    while True:
        yield from loader


def data_loader(options: argparse.Namespace) -> Any:
    """The loader of torchvision's reference trainer and of the published code without its augmentation."""
    import torch
    from torchvision import datasets
    from torchvision.transforms import v2

    from apr_dali.config import IMAGENET

    torch.set_num_threads(1)
    chain = [
        v2.RandomResizedCrop(SIZE),
        v2.RandomHorizontalFlip(),
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(IMAGENET.mean, IMAGENET.std),
    ]
    images = datasets.ImageFolder(options.data, v2.Compose(chain))
    return torch.utils.data.DataLoader(
        images, BATCH, shuffle=True, num_workers=options.threads, drop_last=True, persistent_workers=True
    )


def dali_loader(options: argparse.Namespace, aug: str) -> Any:
    from apr_dali import ImageNetLoader

    common = {"device": options.device, "threads": options.threads, "image_size": SIZE, "drop_last": True}
    return ImageNetLoader(options.data, BATCH, aug, **common)


def family() -> list[Path]:
    """The /proc folders of this process and its living workers."""
    me = Path(f"/proc/{os.getpid()}")
    children = [child for task in me.glob("task/*/children") for child in task.read_text().split()]
    return [me, *(Path(f"/proc/{child}") for child in children)]


def cpu_seconds() -> float:
    """User and system time of this process and of its workers, living or ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for process in family():
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") + ended.ru_utime + ended.ru_stime


def peak_mib() -> float:
    """Sum of the peak resident sizes; pages that workers share with their parent count for each of them."""
    kib = 0
    for process in family():
        lines = (process / "status").read_text().splitlines()
        kib += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return kib / 1024


def median(measurements: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(m[key] for m in measurements) for key in measurements[0]}


def machine(options: argparse.Namespace) -> dict[str, Any]:
    from importlib.metadata import packages_distributions, version

    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")), "?")
    dali = packages_distributions()["nvidia"]
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": version("torch"),
        "dali": next((f"{name} {version(name)}" for name in dali if "dali" in name), "?"),
        "settings": {k: v for k, v in vars(options).items() if k not in ("row", "json", "data")},
    }


def table(result: dict[str, Any]) -> str:
    """The rows at 80 columns, each beside the DataLoader and beside DALI without augmentation."""
    rows, who = result["rows"], result["machine"]
    base, none = rows["torchvision DataLoader"], rows["DALI none"]
    lines = [
        f"{who['cpu']}, {who['cores']} cores, {who['settings']['threads']} threads or workers",
        f"batch {BATCH}, {SIZE} px, {who['settings']['device']}, medians of {who['settings']['rounds']}",
        "",
        f"{'':24}{'images/s':>10}{'of none':>9}{'CPU ms/image':>14}{'DataLoader ÷':>15}{'peak MiB':>10}".rstrip(),
    ]
    for name, row in rows.items():
        lines.append(
            f"{name:24}{row['images/s']:10.0f}{row['images/s'] / none['images/s']:9.0%}{row['CPU ms/image']:14.2f}"
            f"{base['CPU ms/image'] / row['CPU ms/image']:14.2f}x{row['peak MiB']:9.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
