"""Launches of augment_prime.cu."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import corrupt_shapes, launch, paths
from apr_dali.kernels.cuda.augment_job import Job
from apr_dali.kernels.cuda.device import NULL
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("augment_prime.cu", corrupt_shapes.PRODUCT)
ROOM = 1 << 28
"""Bytes that what chains have made takes at most, if it is not that of a single image."""

Array = Any
Numbers = NDArray[np.float64]
Whole = NDArray[np.int64]

_LEVELS = 256
_MODES = 128
"""Those that a table of sines has, or several times as many."""


def prime(
    job: Job,
    mixture: Numbers,
    weight: Numbers,
    depth: Whole,
    operation: Whole,
    modes: Sequence[Numbers],
    color: Sequence[Numbers],
    frequency: Whole,
    kernel: Numbers,
) -> None:
    """(1 - m)·x + m·Σ w·chain(x), N images in M chains of up to D steps; see `PrimeDraws` for the numbers."""
    steps = len(operation)
    plans = np.concatenate([depth[..., None], np.moveaxis(operation, 0, -1)], axis=-1)
    shares = np.concatenate([1 - mixture[:, None], mixture[:, None] * weight], axis=-1)
    terms = [each.shape[-1] for each in color]
    starts = np.cumsum([0, *(each.size for each in color)])[:-1]
    plan, share, taps, terms_of, coefficients, *of_modes = job.device.put(
        (plans, "i4"),
        (shares, "f4"),
        (np.moveaxis(kernel, 0, 2), "f4"),
        (np.stack([starts, terms, frequency], axis=-1), "i4"),
        (np.concatenate([each.ravel() for each in color]), "f4"),
        *((np.swapaxes(each, -1, -2), "f8") for each in modes),
    )
    held = plan, share, taps, terms_of, coefficients
    counts = np.int32(weight.shape[1]), np.int32(steps)
    tables = _tables(job, (*counts, *held), weight.size) if job.overflow is not None else NULL
    _follow(job, (*counts, *held, tables, _sources(job, of_modes)), depth)


def _tables(job: Job, chains: tuple[Any, ...], count: int) -> Array:
    """What color transforms make of levels, float32 (N · M, C, 256)."""
    channels = job.shape[0]
    tables = job.device.empty((count, channels, _LEVELS), "float32")
    shape = launch.Launch(count * channels, _LEVELS)
    job.device.launch(PROGRAM, "tabulate", shape, (*chains, NULL, NULL, np.int32(channels), tables))
    return tables


def _displace(job: Job, modes: Array, out: Array) -> None:
    """How far a pixel's source lies to its left, and above it: float64 (2, H, W), of modes as `_sources` has them."""
    _, height, width = job.shape
    terms = modes.shape[-1]
    halfway = job.device.empty((2, terms, height), "float64")
    down, across = (_sines(job, size, terms) for size in (height, width))
    first = (down, np.int32(down.shape[1]), modes, np.int32(terms), np.int32(height), halfway)
    job.device.launch(PROGRAM, "sum_down", corrupt_shapes.product(2, height, terms), first)
    second = (across, np.int32(across.shape[1]), halfway, np.int32(terms), np.int32(height), np.int32(width), out)
    job.device.launch(PROGRAM, "sum_across", corrupt_shapes.product(2, width, height), second)


def _sines(job: Job, size: int, terms: int) -> Array:
    """sin(πkx) on a line of `size` pixels from 0 to 1, with columns of 0 behind it: a row for each k from 1 to `terms`,
    at the least."""
    count = -(-terms // _MODES) * _MODES

    def make() -> tuple[Numbers]:
        line = np.sin(np.pi * np.arange(1, count + 1)[:, None] * np.linspace(0, 1, size))
        return (np.pad(line, ((0, 0), (0, corrupt_shapes.padding(size)))),)

    return paths.constant(job.device, ("sines", size, count), make)[0]


def _sources(job: Job, modes: list[Array]) -> Array:
    """Where the pixels of each step come from: `Source` of augment_prime.cu, as words (D, H, W, 4).

    modes: of each step float64 (2, m, m), those down an image before those across.
    """
    steps, (_, height, width) = len(modes), job.shape
    displacement = job.device.empty((steps, 2, height, width), "float64")
    for number, each in enumerate(modes):
        _displace(job, each, displacement[number])
    sources = job.device.empty((steps, height, width, 4), "uint32")
    shape, parts = launch.elements(steps, height * width)
    args = (displacement, np.int32(parts), np.int32(height), np.int32(width), sources)
    job.device.launch(PROGRAM, "find_sources", shape, args)
    return sources


def _follow(job: Job, chains: tuple[Any, ...], depth: Whole) -> None:
    """All steps of all chains, for as many images at a time as there is room for."""
    images, count = depth.shape
    buffers = min(int(depth.max()) - 1, 2)
    planes = (count, *job.shape)
    at_once = min(images, max(1, ROOM // max(4 * buffers * prod(planes), 1)))

    def make() -> list[Array]:
        return [job.device.empty((at_once, *planes), "float32") for _ in range(buffers)]

    key = (job.device.key, "chains", at_once, planes, buffers)
    with paths.work.borrowed(key, make) as room:
        even, odd = (*room, NULL, NULL)[:2]
        for first in range(0, images, at_once):
            here = min(at_once, images - first)
            for step in range(int(depth.max()) - 1):
                before, after = ((odd, even), (even, odd))[step % 2]
                args = (np.int32(step), before if step else NULL, after)
                _launch(job, "take_step", here * count, chains, first, args)
            _launch(job, "mix_chains", here, chains, first, (even, odd))


def _launch(job: Job, kernel: str, things: int, chains: tuple[Any, ...], first: int, args: tuple[Any, ...]) -> None:
    shape, parts = launch.elements(things, prod(job.shape))
    job.device.launch(PROGRAM, kernel, shape, (*job.ends, *chains, np.int32(parts), np.int32(first), *args))


LAUNCHERS = {"prime": prime}
