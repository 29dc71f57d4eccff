"""What the operators cost on this machine's CPU: the native backend against the published code and against FFTs alone.

    python benchmarks/cpu.py                        # two threads, about two minutes
    python benchmarks/cpu.py --threads 8 --json cpu.json

The rows of a table take turns in one process for some rounds, so that a busy moment of the machine hits all alike;
the table gives medians. APR-S as published is Pillow and NumPy, image by image, in as many processes as the native
backend has threads. "Transforms alone" is a real transform over rows and columns and back, with nothing between.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image

import apr_dali
from apr_dali.bench import published_code
from apr_dali.draws import SingleDraws
from apr_dali.kernels.cpu import backend as native_backend

Row = Callable[[], Any]
PAIR_SIZES = {"64×3×224²": (64, 224), "128×3×32²": (128, 32)}
SINGLE_SIZES = {"64×224²": (64, 224), "512×32²": (512, 32)}
REFERENCE = "published"


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    tables = {}
    for name, (batch, size) in PAIR_SIZES.items():
        tables[f"APR-P {name}"] = in_turns(pair_rows(batch, size, options.threads), batch, options.rounds)
    for name, (batch, size) in SINGLE_SIZES.items():
        tables[f"APR-S {name}"] = single_table(batch, size, options)
    result = {"machine": machine(options), "draws_us_per_image": draw_cost(256), "ms_per_image": tables}
    print(render(result))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="threads of every row, processes of Pillow (default: 2)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each row is measured (default: 9)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE too")
    return parser.parse_args()


# ---- Measuring ----

_WINDOW = 0.1


def in_turns(rows: dict[str, Row], batch: int, rounds: int) -> dict[str, float]:
    """The median over the rounds of each row in milliseconds per image.

    In its turn a row runs once to find its memory and its caches again, as in a pipeline, where it runs batch after
    batch; then it counts for `_WINDOW` seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            run()
            calls, start = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - start < _WINDOW:
                run()
                calls += 1
            times[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(seconds) / batch * 1e3 for name, seconds in times.items()}


def draw_cost(batch: int) -> float:
    """Microseconds per image to draw the parameters of APR-S for a batch."""
    generator = np.random.default_rng(0)
    rows = {"draw": lambda: [SingleDraws.sample(batch, 224, 224, generator) for _ in range(20)]}
    return in_turns(rows, 20 * batch, 25)["draw"] * 1e3


# ---- APR-P ----


def pair_rows(batch: int, size: int, threads: int) -> dict[str, Row]:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    images = torch.from_numpy(levels).permute(0, 3, 1, 2).contiguous() / 255
    planes = images.numpy()
    partner = rng.permutation(batch)
    given = {"backend": "native", "threads": threads}
    rows: dict[str, Row] = {
        REFERENCE: lambda: published_code.pair(images, torch.from_numpy(partner)),
        "published, nothing twice": lambda: published_code.pair_once(images, torch.from_numpy(partner)),
        "torch backend": lambda: apr_dali.pair(images, partner, backend="torch"),
        "native": lambda: apr_dali.pair(planes, partner, **given),
        "native, uint8 to float16": lambda: apr_dali.pair(levels, partner, dtype="float16", **given),
        **output_rows(levels, partner, given),
        "native, both views": lambda: apr_dali.pair(levels, partner, dtype="float16", with_clean=True, **given),
        "transforms alone, native": lambda: native_backend.round_trip(planes, threads),
        "transforms alone, torch": lambda: torch.fft.irfft2(torch.fft.rfft2(images), s=(size, size)),
    }
    return rows | library_rows(planes, threads)


def output_rows(levels: np.ndarray, partner: np.ndarray, given: dict[str, Any]) -> dict[str, Row]:
    """What it costs to write the result in another type and order: to be read against float32, contiguous."""
    images = torch.from_numpy(levels)

    def row(dtype: str, memory_format: str) -> Row:
        return lambda: apr_dali.pair(images, partner, dtype=dtype, memory_format=memory_format, **given)

    return {
        f"native, uint8 to {dtype}, {memory_format}": row(dtype, memory_format)
        for dtype in ("float32", "bfloat16")
        for memory_format in ("contiguous", "channels_last")
    }


def library_rows(planes: np.ndarray, threads: int) -> dict[str, Row]:
    """The transforms alone by the libraries that are installed."""
    size, rows = planes.shape[-2:], {}

    def installed(name: str) -> bool:
        return importlib.util.find_spec(name) is not None

    if installed("scipy"):
        import scipy.fft as sp

        rows["scipy"] = lambda: sp.irfft2(sp.rfft2(planes, workers=threads), s=size, workers=threads)
    if installed("ducc0"):
        import ducc0.fft as ducc

        def by_ducc() -> None:
            half = ducc.r2c(planes, axes=(2, 3), nthreads=threads)
            ducc.c2r(half, axes=(2, 3), lastsize=size[1], inorm=2, forward=False, nthreads=threads)

        rows["ducc0"] = by_ducc
    if installed("pyfftw"):
        import pyfftw

        forward = pyfftw.builders.rfft2(pyfftw.byte_align(planes), threads=threads)
        back = pyfftw.builders.irfft2(forward(), s=size, threads=threads)
        rows["FFTW"] = lambda: back(forward(planes))
    return {f"transforms alone, {name}": run for name, run in rows.items()}


# ---- APR-S ----


class Workers:
    """Processes that hold a part of the batch each and work through it on request."""

    def __init__(self, images: np.ndarray, draws: SingleDraws, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes = []
        for index in range(count):
            ours, theirs = context.Pipe()
            mine = range(index, len(images), count)
            context.Process(target=work, args=(theirs, images, draws, mine), daemon=True).start()
            self.pipes.append(ours)

    def run(self) -> None:
        for pipe in self.pipes:
            pipe.send(True)
        for pipe in self.pipes:
            pipe.recv()

    def stop(self) -> None:
        for pipe in self.pipes:
            pipe.send(False)


def work(pipe: Any, images: np.ndarray, draws: SingleDraws, mine: range) -> None:
    while pipe.recv():
        for n in mine:
            published_code.single(images[n], draws, n)
        pipe.send(None)


def single_table(batch: int, size: int, options: argparse.Namespace) -> dict[str, float]:
    rng = np.random.default_rng(1)
    # Smooth like a photograph: the operations look at histograms, and noise has no other than a flat one.
    coarse = rng.integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse])
    draws = SingleDraws.sample(batch, size, size, rng)
    workers = Workers(images, draws, options.threads)
    tensor = torch.from_numpy(images)
    rows: dict[str, Row] = {
        REFERENCE: workers.run,
        "torch backend": lambda: apr_dali.single(tensor, draws, backend="torch"),
        "native": lambda: apr_dali.single(images, draws, backend="native", threads=options.threads),
    }
    try:
        return in_turns(rows, batch, options.rounds)
    finally:
        workers.stop()


# ---- The result ----


def machine(options: argparse.Namespace) -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    versions = {"torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__}
    return {
        "processor": model,
        "threads": options.threads,
        "level": native_backend.check()[1],
        "rounds": options.rounds,
        **versions,
    }


def render(result: dict[str, Any]) -> str:
    about = result["machine"]
    lines = [f"{about['processor']}, {about['threads']} threads, native is {about['level']}, torch {about['torch']}"]
    lines.append(f"Drawing APR-S at batch 256: {result['draws_us_per_image']:.2f} µs per image")
    for title, rows in result["ms_per_image"].items():
        lines += ["", f"{title:<40}{'ms per image':>14}{'× published':>14}"]
        for name, ms in rows.items():
            lines.append(f"  {name:<38}{ms:>14.4f}{rows[REFERENCE] / ms:>14.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
