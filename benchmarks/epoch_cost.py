"""What APR costs a run whose limit is the network: the time of an epoch with APR relative to one without.

    OMP_NUM_THREADS=1 python benchmarks/epoch_cost.py
    python benchmarks/epoch_cost.py --batches 4 --rounds 1 --size 32    # does it run

Trains ResNet-18 with `apr_dali.training.engine.Trainer` on a temporary set of noise images, on the CPU, with one loader
for each of none, apr-p and apr-sp, and apr-sp with the copies that `repeat_unmixed` gives. An epoch of each in turn, so
that a slow minute of the machine is everyone's; the ratio is taken round by round. A network sees 1 + p rows of an
image on average, p = 0.5, and 2 with the copies. The goal is at most 1.55 times none.

How often the coin falls is chance: `rows` says how many a network saw in these rounds, and `per row` what they cost.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from apr_dali import ImageNetLoader
from apr_dali.models import create_model
from apr_dali.runtime import torch_threads
from apr_dali.runtime.distributed import Group
from apr_dali.training.engine import Trainer
from apr_dali.training.options import ImageNetOptions

CLASSES = 10
WAYS = {
    "none": {"aug": "none"},
    "apr-p": {"aug": "apr-p"},
    "apr-sp": {"aug": "apr-sp"},
    "apr-sp, repeated": {"aug": "apr-sp", "repeat_unmixed": True},
}
Times = dict[str, list[tuple[float, float]]]
"""Seconds of each epoch and the rows per image that the network saw in it, by the name of the way."""


def write_images(folder: Path, count: int, size: int) -> None:
    """`count` JPEG files of size × size pixels in class folders: little to decode, so that the network is the limit."""
    levels = np.random.default_rng(0)
    for index in range(count):
        place = folder / f"class{index % CLASSES}"
        place.mkdir(exist_ok=True)
        pixels = levels.integers(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{index:05d}.jpg")


def epoch(trainer: Trainer, loader: ImageNetLoader) -> tuple[float, float]:
    """Seconds of an epoch, and the rows per image."""
    trainer.model.train()
    images_seen = rows = 0
    start = time.perf_counter()
    for images, targets in loader:
        trainer.step(images, targets, loader.views, loader.batch_views)
        rows += len(images)
        images_seen += len(images) // loader.batch_views
    return time.perf_counter() - start, rows / images_seen


def measure(folder: Path, batches: int, batch: int, rounds: int, size: int) -> Times:
    """The epochs of all ways in turns, after two steps of each to warm up."""
    trainers, loaders = {}, {}
    for name, given in WAYS.items():
        options = ImageNetOptions(data=str(folder), model="resnet18", lr=0.01, batch_size=batch, **given)
        torch.manual_seed(0)
        model = create_model("resnet18", CLASSES)
        torch_threads.choose(model, size, 3, torch.device("cpu"))
        trainers[name] = Trainer(model, options, Group(0, 1, 0, torch.device("cpu")), "resnet18")
        loaders[name] = ImageNetLoader(
            folder, batch, image_size=size, seed=0, drop_last=True, memory_format="channels_last", **given
        )
        assert len(loaders[name]) == batches
        for images, targets in (next(iter(loaders[name])) for _ in range(2)):
            trainers[name].step(images, targets, loaders[name].views, loaders[name].batch_views)
    found: Times = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name in WAYS:
            found[name].append(epoch(trainers[name], loaders[name]))
    for loader in loaders.values():
        loader.close()
    return found


def summary(found: Times) -> dict[str, dict[str, float]]:
    """Medians over the rounds: seconds of an epoch, time relative to none, rows per image, relative time per row."""
    base = [seconds for seconds, _ in found["none"]]
    made = {}
    for name, rounds in found.items():
        relative = [seconds / none for (seconds, _), none in zip(rounds, base, strict=True)]
        made[name] = {
            "seconds": statistics.median(seconds for seconds, _ in rounds),
            "of none": statistics.median(relative),
            "rows": statistics.mean(rows for _, rows in rounds),
            "per row": statistics.median(one / rows for one, (_, rows) in zip(relative, rounds, strict=True)),
        }
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=40, help="of an epoch (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="images per batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="pixels a side (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), args.batches * args.batch_size, args.size)
        found = summary(measure(Path(folder), args.batches, args.batch_size, args.rounds, args.size))
    if args.json:
        print(json.dumps(found))
        return
    print(f"{'an epoch':18}" + "".join(f"{title:>10}" for title in found["none"]))
    for name, row in found.items():
        print(f"{name:18}" + "".join(f"{value:10.3f}" for value in row.values()))


if __name__ == "__main__":
    main()
