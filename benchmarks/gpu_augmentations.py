"""What the augmentations beside APR cost on a CUDA device, beside their forms in torch and APR-P's kernels. No DALI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gpu_operators
import gpu_timing
import torch
from augmentations import changing_draws
from gpu_operators import TimedLaunches, strips_bytes
from gpu_timing import Row, Table, levels

import apr_dali
from apr_dali.augmentations import NAMES, apply, find
from apr_dali.kernels.cuda import augmentations as cuda_augmentations
from apr_dali.kernels.cuda import backend as cupy_backend

BATCH, SIZE, DATASET = 64, 224, "imagenet"
REFERENCE = "apr-p"
_MOST_ROUNDS = 3  # draws are prepared on the host, which takes longer than the kernels

WARP_INSTRUCTIONS = {
    **dict.fromkeys(("amplitude-mix", "fda"), 701_000),
    **dict.fromkeys(("spectral-gains", "amplitude-rescale", "phase-shift", "frequency-mask"), 545_000),
    "gaussian-mask": 1_021_000,
    "afa": 347_000,
    "hybrid-p": 799_000,
    "hybrid++-p": 1_361_000,
    "prime": 5_790_000,
}
"""Per image of 224² of levels, counted by running the compiled kernels on the PTX simulator."""


def tables(rounds: int, copy: float) -> dict[str, Callable[[], Table]]:
    """What can be measured, by title. copy: the bytes per second of a plain copy."""
    return {f"augmentations {BATCH} × {SIZE}²": partial(table, min(rounds, _MOST_ROUNDS), copy)}


def measured() -> list[str]:
    """Those that have a CUDA kernel."""
    return [name for name in NAMES if find(name).cuda_form is not None]


def table(rounds: int, copy: float) -> Table:
    """uint8 to the same with given draws. "images/s": with what the host does before the kernels, and "× torch" of it;
    the rest of the kernels alone, cuFFT left out. "of copy", "of issue": by predicted bytes and instructions."""
    images = levels(BATCH, SIZE)
    partner = torch.randperm(BATCH, dtype=torch.int32).cuda()
    runs: dict[str, Row] = {
        REFERENCE: lambda: apr_dali.pair(images, partner, in_scale=1 / 255, dtype="float16", backend="cupy")
    }
    for name in measured():
        draws = changing_draws(name, BATCH, SIZE, DATASET)
        for backend in ("cupy", "torch"):
            runs[f"{name}, {backend}"] = partial(apply, name, images, draws, backend=backend)
    seconds = gpu_timing.in_turns(runs, rounds)
    kernels = {name: kernel_seconds(runs[name], rounds) for name in runs if not name.endswith(", torch")}
    moved, issued = bytes_moved(SIZE), gpu_operators.issue_rate()
    found: Table = {}
    for name in measured():
        own, taken = f"{name}, cupy", kernels[f"{name}, cupy"]
        found[name] = {
            "images/s": BATCH / seconds[own],
            "× torch": seconds[f"{name}, torch"] / seconds[own],
            "kernels, µs": taken / BATCH * 1e6,
            "of APR-P": taken / kernels[REFERENCE],
            "of copy": BATCH * moved.get(name, 0.0) / taken / copy,
            "of issue": BATCH * WARP_INSTRUCTIONS.get(name, 0) / taken / issued,
        }
    return found


def kernel_seconds(run: Row, rounds: int) -> float:
    """What the launches of a call take, added up; the median of some calls."""
    times = []
    with timed_launches() as launches:
        for turn in range(rounds + 1):
            launches.clear()
            run()
            torch.cuda.synchronize()
            if turn > 0:
                times.append(sum(start.elapsed_time(end) / 1e3 for _, start, end in launches))
    return sorted(times)[len(times) // 2]


@contextmanager
def timed_launches() -> Iterator[list[Any]]:
    usual, cuda_augmentations._device = cuda_augmentations._device, gpu_operators.TimedDevice
    own, cupy_backend._device = cupy_backend._device, gpu_operators.TimedDevice
    try:
        yield TimedLaunches.launches
    finally:
        cuda_augmentations._device, cupy_backend._device = usual, own


def bytes_moved(size: int) -> dict[str, float]:
    """Per image of levels, each array once for every time that a kernel reads or writes it.

    What several threads of a kernel read is in the cache. PRIME: three chains, whose steps are 1 to 3 alike often.
    """
    values = 3 * size * size
    channels, image = strips_bytes(size, "float32", across_channels=False), strips_bytes(size, "float32")
    blended = 2 * values + 5 * channels
    gains = 4 * size * (size // 2 + 1)
    scaled = 2 * values + 4 * channels + gains
    spectral = ("spectral-gains", "amplitude-rescale", "phase-shift", "frequency-mask")
    return {
        "amplitude-mix": blended,
        "fda": blended,
        **dict.fromkeys(spectral, scaled),
        "gaussian-mask": scaled + 2 * gains,
        "afa": 2 * values,
        "hybrid-p": 3 * values,
        # The low part, APR-P on it, and the high part.
        "hybrid++-p": (1 + 4) * values + (4 + 4) * values + 5 * image + (4 + 4 + 1 + 1) * values,
        "prime": 2 * values + 3 * (4 + 4) * values + 2 * values,
    }
