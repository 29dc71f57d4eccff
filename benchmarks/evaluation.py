"""What evaluations cost beside the network's own forward pass and the decoding, and whether memory grows.

    OMP_NUM_THREADS=1 python benchmarks/evaluation.py

Writes a temporary set of photographs of 224×224 pixels in the form of ImageNet-C, and times, in turns, decoding with
the forward pass and nothing else, and each kind of pass that evaluations make, all of which keep something of every
image: that over a corruption's images, with error and calibration; the one over the labeled images that `eval all`
shares, with accuracy, calibration and scores of logits; and one with all scores of features that need no gradients. The
goal: each at 0.95 of the rate of decoding with the forward pass, or more. Then what follows the passes, which is
intervals but for a small rest, on made-up outputs of as many images as published sets have: milliseconds per image, to
stand beside those of decoding and forward pass.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import nn

from apr_dali.eval.calibration_rows import measures_of
from apr_dali.eval.corruption import CorruptionTable
from apr_dali.eval.corruption_intervals import intervals_of
from apr_dali.eval.datasets import Feeding
from apr_dali.eval.head import Head, find_head
from apr_dali.eval.load_model import Network
from apr_dali.eval.ood_draws import ood_intervals
from apr_dali.eval.ood_fits import Fit, Fits
from apr_dali.eval.ood_kinds import KINDS
from apr_dali.eval.ood_scores import Makings, score_functions
from apr_dali.eval.outputs import Function, collect, features_of
from apr_dali.eval.passes import Source
from apr_dali.eval.recorded import Images, evaluate_recorded
from apr_dali.eval.rows import CHUNK, rows_in
from apr_dali.eval.session import Session
from apr_dali.eval.shared_pass import Logits, sharing
from apr_dali.eval.state import State
from apr_dali.models import create_model
from apr_dali.runtime import torch_threads
from apr_dali.runtime.distributed import Group

PASSES = ("error and calibration of a corruption", "accuracy, calibration and scores of logits", "scores of features")
GROUP = Group(0, 1, 0, torch.device("cpu"))
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


@torch.no_grad()
def plain(model: nn.Module, source: Source) -> float:
    """Seconds for decoding and forward pass of `source`, and nothing else."""
    start = time.perf_counter()
    with source.open() as batches:
        for images, _ in batches:
            model(images)
    return time.perf_counter() - start


def shared(session: Session, source: Source) -> float:
    """Seconds for the pass that `eval all` shares."""
    start = time.perf_counter()
    with sharing(session) as own:
        assert own.passes is not None
        own.passes.of(source)
    return time.perf_counter() - start


def scored(model: nn.Module, source: Source, functions: Mapping[str, Function], head: Head) -> float:
    """Seconds for a pass with scores of features."""
    start = time.perf_counter()
    with source.open() as batches:
        collect(model, batches, functions, "cpu", head=head)
    return time.perf_counter() - start


def fitted_scores(folder: Path, model: nn.Module, source: Source) -> tuple[dict[str, Function], Head]:
    """All scores that need no gradients, fitted to the images of `source`, taken for one of each class in turn."""
    with source.open() as batches:
        head = find_head(model, next(iter(batches))[0], "the network")
    with rows_in(folder, "features", GROUP) as rows:
        with source.open() as batches:
            collect(model, batches, {}, "cpu", head=head, rows={"features": (features_of, rows)})
        # Too few images for one of each class: the classes' number changes little of the cost of a score.
        chosen = {name: kind.default for name, kind in KINDS.items() if not kind.gradients and name != "mahalanobis"}
        fits = Fits(Fit(rows, np.zeros(len(rows), np.int64)))
        return score_functions(Makings(model, (1, 1, 1), head, fits), chosen), head


def corrupted(model: nn.Module, source: Source) -> float:
    """Seconds for the pass over a corruption's images."""
    start = time.perf_counter()
    evaluate_recorded(model, [source], "cpu", State(None, {}))
    return time.perf_counter() - start


def after_passes(folder: Path, images: int) -> dict[str, float]:
    """Milliseconds per image of what follows the passes over so many, of 1,000 classes."""
    rng = np.random.default_rng(0)
    own, other = rng.normal(1, 1, images), rng.normal(0, 1, images)
    right = rng.random(images) < 0.7
    cells = {"fog": [Images(right, rng.random(images), rng.random(images)) for _ in range(5)]}
    table = CorruptionTable({"fog": (0.3,) * 5}, images, ece={"fog": (0.1,) * 5}, rms={"fog": (0.1,) * 5})
    with rows_in(folder, "made-up", GROUP) as rows:
        for _ in range(0, images, CHUNK):
            rows.append(torch.randn(CHUNK, 1000) * 4)
        rows.finish("made-up logits")
        logits = Logits(rows, rng.integers(1000, size=len(rows)))
        works = {
            "calibration, as it is or tuned": (images, lambda: measures_of(logits, np.isfinite)),
            "a corruption": (5 * images, lambda: intervals_of(table, cells)),
            "a score of a set": (2 * images, lambda: ood_intervals(own, right, {"far": other}, {})),
        }
        found = {}
        for name, (count, work) in works.items():
            start = time.perf_counter()
            work()
            found[name] = 1000 * (time.perf_counter() - start) / count
    return found


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def print_rates(passes: Sequence[Sequence[float]]) -> None:
    """passes: of each round the seconds of the plain pass and of those of PASSES."""
    for number, name in enumerate(PASSES, 1):
        rate = statistics.median(row[0] / row[number] for row in passes)
        print(f"{name} in one pass: {rate:.3f} of the rate of decoding and forward pass")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=192, help="of a pass, 64 or more (default: %(default)s)")
    parser.add_argument("--model", default="resnet18", help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="passes of each kind, in turns (default: %(default)s)")
    parser.add_argument("--after", type=int, default=10_240, help="images of what follows (default: %(default)s)")
    args = parser.parse_args()
    count = args.images // BATCH * BATCH
    model = create_model(args.model, 1000).eval()
    torch_threads.choose(model, SIDE, 3, torch.device("cpu"))
    network = Network(args.model, model, ("class",), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), SIDE, "")
    feeding = Feeding(network, GROUP, BATCH, "none", threads=1)
    with tempfile.TemporaryDirectory() as scratch:
        for name, images in (("short", count), ("long", 4 * count)):
            write_photos(Path(scratch, name), images)
        short, long = (feeding.folder(name, f"{scratch}/{name}", as_it_is=True) for name in ("short", "long"))
        corrupted(model, short)  # what is made once is not part of a pass
        session = Session(network, model, GROUP, feeding, Path(scratch))
        functions, head = fitted_scores(Path(scratch), model, short)
        passes = [
            (
                plain(model, short),
                corrupted(model, short),
                shared(session, short),
                scored(model, short, functions, head),
            )
            for _ in range(args.rounds)
        ]
        alone = [1000 * seconds / count for seconds in (decode(short), forward(model, count // BATCH))]
        before = peak_mib()
        corrupted(model, long)
        grown = peak_mib() - before
        after = after_passes(Path(scratch), args.after)
    print(
        f"{count} images, batch {BATCH}, {args.model}, torch threads {torch.get_num_threads()}, medians, ms per image"
    )
    both = 1000 * statistics.median(row[0] for row in passes) / count
    print(f"decoding alone {alone[0]:.2f}, forward pass alone {alone[1]:.2f}, both {both:.2f}")
    print_rates(passes)
    told = ", ".join(f"{name} {value:.3f}" for name, value in after.items())
    print(f"after the passes over {args.after} images, ms per image: {told}")
    print(f"peak memory after a pass over four times as many images: {grown:+.1f} MiB of {before:.0f}")


if __name__ == "__main__":
    main()
