"""What an evaluation pass costs beside the network's own forward pass and the decoding, and whether memory grows.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py

Writes a temporary set of photographs of 224×224 pixels in the form of ImageNet-C, and times, in turns, decoding alone,
the forward pass alone on one batch that is decoded already, and `apr_dali.eval.passes.evaluate_each`. The goal is at
most 1.1 times decoding plus forward pass; on one core they add up, on more they overlap.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import nn

from apr_dali.eval.datasets import Feeding
from apr_dali.eval.load_model import Network
from apr_dali.eval.passes import Source, evaluate_each
from apr_dali.eval.state import State
from apr_dali.models import create_model
from apr_dali.runtime import torch_threads
from apr_dali.runtime.distributed import Group

BATCH = 16
SIDE = 224


def write_photos(folder: Path, count: int) -> None:
    """`count` JPEG files of quality 85, cut from photographs."""
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in (data.astronaut(), data.coffee(), data.chelsea())]
    (folder / "class").mkdir(parents=True)
    for index in range(count):
        photo = photos[index % len(photos)]
        left, top = (int(rng.integers(side - SIDE + 1)) for side in photo.size)
        buffer = io.BytesIO()
        photo.crop((left, top, left + SIDE, top + SIDE)).save(buffer, "JPEG", quality=85)
        (folder / "class" / f"{index:05d}.JPEG").write_bytes(buffer.getvalue())


def decode(source: Source) -> float:
    """Seconds for the batches of `source` alone."""
    start = time.perf_counter()
    with source.open() as batches:
        for _ in batches:
            pass
    return time.perf_counter() - start


@torch.no_grad()
def forward(model: nn.Module, batches: int) -> float:
    """Seconds for as many forward passes, on the same images."""
    images = torch.randn(BATCH, 3, SIDE, SIDE)
    start = time.perf_counter()
    for _ in range(batches):
        model(images)
    return time.perf_counter() - start


def evaluate(model: nn.Module, source: Source) -> float:
    """Seconds for an evaluation of `source`."""
    start = time.perf_counter()
    evaluate_each(model, [source], "cpu", State(None, {}))
    return time.perf_counter() - start


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=320, help="of a pass (default: %(default)s)")
    parser.add_argument("--model", default="resnet18", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each kind, in turns (default: %(default)s)")
    args = parser.parse_args()
    count = args.images // BATCH * BATCH
    model = create_model(args.model, 1000).eval()
    torch_threads.choose(model, SIDE, 3, torch.device("cpu"))
    network = Network(args.model, model, ("class",), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), SIDE, "")
    feeding = Feeding(network, Group(0, 1, 0, torch.device("cpu")), BATCH, "none", threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        for name, images in (("short", count), ("long", 4 * count)):
            write_photos(Path(scratch, name), images)
        short, long = (feeding.folder(name, f"{scratch}/{name}", as_it_is=True) for name in ("short", "long"))
        evaluate(model, short)  # what is made once is not part of a pass
        rounds = [(decode(short), forward(model, count // BATCH), evaluate(model, short)) for _ in range(args.rounds)]
        before = peak_mib()
        evaluate(model, long)
        grown = peak_mib() - before
    decoding, own, whole = (1000 * statistics.median(column) / count for column in zip(*rounds, strict=True))
    ratio = statistics.median(w / (d + f) for d, f, w in rounds)
    print(
        f"{count} images, batch {BATCH}, {args.model}, torch threads {torch.get_num_threads()}, medians, ms per image"
    )
    print(f"decoding {decoding:.2f}, forward pass {own:.2f}, evaluation {whole:.2f}")
    print(f"evaluation / (decoding + forward pass): {ratio:.3f}")
    print(f"peak memory after a pass over four times as many images: {grown:+.1f} MiB of {before:.0f}")


if __name__ == "__main__":
    main()
