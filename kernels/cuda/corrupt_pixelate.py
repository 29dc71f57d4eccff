"""Launches of corrupt_pixelate.cu."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import launch, paths
from apr_dali.kernels.cuda.corrupt_job import Array, Job
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_pixelate.cu", fused_multiply_add=False)
_BITS = 22  # of a weight, as Pillow has it for bytes


def pixelate(job: Job) -> None:
    large = (job.height, job.width)
    small = tuple(int(side * job.parameters) for side in large)
    key = (job.device.key, "pixelate", job.n, small)
    with paths.work.borrowed(key, lambda: job.device.empty((job.n, *small, 3), "uint8")) as between:
        _resize(job, job.images, between)
        _resize(job, between, job.out)


def _resize(job: Job, source: Array, target: Array) -> None:
    (rows, columns), (height, width) = source.shape[1:3], target.shape[1:3]
    sides = ((rows, height), (columns, width))
    tables = [paths.constant(job.device, ("box", *side), partial(box_taps, *side)) for side in sides]
    sizes = [np.int32(value) for value in (height, width, rows, columns)]
    shape, parts = launch.elements(job.n, height * width)
    spans = [part for table in tables for part in (*table, np.int32(table[1].shape[1]))]
    args = (source, *sizes[:2], target, np.int32(parts), *sizes[2:], *spans)
    job.device.launch(PROGRAM, "resize", shape, args)


def box_taps(source: int, target: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pillow's box filter from `source` places to `target`: for each the first neighbor and how many, (target, 2), and
    their weights of 22 bits (target, most), those past the last one 0."""
    scale = source / target
    stretch = max(scale, 1.0)
    centers = (np.arange(target) + 0.5) * scale
    support = 0.5 * stretch
    first = np.maximum((centers - support + 0.5).astype(int), 0)
    end = np.minimum((centers + support + 0.5).astype(int), source)
    taps = first[:, None] + np.arange(2 * math.ceil(support) + 1)
    off = (taps - centers[:, None] + 0.5) / stretch
    weights: NDArray[Any] = ((off > -0.5) & (off <= 0.5) & (taps < end[:, None])).astype(float)
    weights = (0.5 + weights / weights.sum(axis=1, keepdims=True) * (1 << _BITS)).astype(np.int32)
    return np.stack([first, end - first], axis=1).astype(np.int32), weights


LAUNCHERS = {"pixelate": pixelate}
