"""What an evaluation under the 15 corruptions × 5 severities costs: on the fly, and by a set on disk of the library.

    OMP_NUM_THREADS=1 python benchmarks/on_the_fly.py

Both begin with the same photographs and end with the errors of the same network, by default one so small that its own
time, which is shown too, hides nothing. On disk: the images are cut, imagecorruptions-imaug makes each cell, JPEG files
of quality 85 are written, and `eval corruption --data` reads them. The times are CPU time of this process and its
children; the goal is 8 times less on the fly. Not all corruptions of the library are those of ImageNet-C: the two
errors are near each other and not equal.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from by_library import CLASSES, SIDE, timed, write_by_library, write_photographs
from torch import Tensor, nn

from apr_dali.eval import evaluate_corruption, evaluate_corruption_on_the_fly
from apr_dali.models import create_model

TINY = "tiny"


class Timed(nn.Module):
    """A network that counts the CPU seconds of its own forward passes, on one thread."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.seconds = 0.0

    def forward(self, images: Tensor) -> Tensor:
        before = time.thread_time()
        logits: Tensor = self.model(images)
        self.seconds += time.thread_time() - before
        return logits

    def take(self) -> float:
        """The seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def tiny() -> nn.Module:
    """Three convolutions with strides."""
    layers = [nn.Conv2d(3, 8, 7, 8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(CLASSES)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=200, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--model", default=TINY, help="tiny, or a name of torchvision's or timm's (default: tiny)")
    parser.add_argument("--scratch", metavar="DIR", help="where the sets are written (default: the system's)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Timed(tiny() if args.model == TINY else create_model(args.model, len(CLASSES)))
    seen: dict[str, Any] = {"classes": CLASSES, "image_size": SIDE, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    seen |= {"device": "cpu", "threads": 1, "batch_size": 50}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        val, corrupted = Path(scratch, "val"), Path(scratch, "c")
        write_photographs(val, args.images)
        evaluate_corruption_on_the_fly(model, val, limit=1, **seen)  # what is made once is made
        model.take()
        computing, computed = timed(partial(evaluate_corruption_on_the_fly, model, val, **seen))
        own = model.take()
        writing, _ = timed(partial(write_by_library, val, corrupted))
        reading, read = timed(partial(evaluate_corruption, model, corrupted, **seen))
        own_reading = model.take()
    disk = writing + reading
    print(f"{args.images} images × 75 cells, {args.model}, CPU seconds")
    print(f"on the fly {computing:.1f}, of which the network {own:.1f}; mean error {computed.mean_error:.4f}")
    print(f"on disk {disk:.1f}, of which the network {own_reading:.1f}; mean error {read.mean_error:.4f}")
    print(f"         written in {writing:.1f}, read in {reading:.1f}")
    print(f"on disk / on the fly: {disk / computing:.1f}")
    print(f"without the network's own: {(disk - own_reading) / (computing - own):.1f}")


if __name__ == "__main__":
    main()
