"""What ImageNet-C's corruptions cost on a CUDA device, beside the native operators on this machine's CPUs. No DALI."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import gpu_timing
from gpu_timing import Table, levels

import apr_dali
from apr_dali.corruptions import NAMES
from apr_dali.kernels.cuda import corruptions as cuda_corruptions

BATCH, SIZE, SEVERITY = 256, 224, 3
_ON_CPU = 32  # images that the native operators are timed on
_FROM_PACKAGE = {"frost": "imagecorruptions"}


def tables(rounds: int, copy: float) -> dict[str, Callable[[], Table]]:
    """What can be measured, by title. copy: the bytes per second of a plain copy."""
    return {f"corruptions {BATCH} × {SIZE}², severity {SEVERITY}": partial(table, rounds, copy)}


def measured() -> list[str]:
    """Those that have a CUDA kernel, and what else they need, in the order of the published tables."""
    there = [name for name in NAMES if name in cuda_corruptions.LAUNCHERS]
    return [name for name in there if name not in _FROM_PACKAGE or find_spec(_FROM_PACKAGE[name])]


def table(rounds: int, copy: float) -> Table:
    """Draws included, none kept. "of copy": of the time that the images take there and back alone."""
    images = levels(BATCH, SIZE)
    runs = {}
    for name in measured():
        draws = apr_dali.CorruptionDraws.sample(name, SEVERITY, BATCH, SIZE, SIZE, seed=0)
        runs[name] = partial(apr_dali.corrupt, images, name, SEVERITY, draws, backend="cupy")
    seconds = gpu_timing.in_turns(runs, rounds)
    return {
        name: {
            "images/s": BATCH / taken,
            "× native": BATCH / taken / on_cpu(name),
            "of copy": BATCH * 2 * 3 * SIZE * SIZE / taken / copy,
        }
        for name, taken in seconds.items()
    }


def on_cpu(name: str) -> float:
    """Images per second of the CPU's backend, which is native where it was built, on all of this process's CPUs."""
    images = levels(_ON_CPU, SIZE).cpu().numpy()
    draws = apr_dali.CorruptionDraws.sample(name, SEVERITY, _ON_CPU, SIZE, SIZE, seed=0)
    apr_dali.corrupt(images[:1], name, SEVERITY, apr_dali.CorruptionDraws.sample(name, SEVERITY, 1, SIZE, SIZE, seed=0))
    start = time.perf_counter()
    apr_dali.corrupt(images, name, SEVERITY, draws)
    return _ON_CPU / (time.perf_counter() - start)
