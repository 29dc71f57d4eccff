"""Launches of corrupt_blur.cu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import corrupt_shapes
from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.corrupt_parts import Array, Kind, by_parts, each_of, each_pixel
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_blur.cu", (*corrupt_shapes.SMOOTH, *corrupt_shapes.DISK), fused_multiply_add=False)


def _halfway(job: Job) -> Kind:
    return ((job.width, job.height, 3), "float64")


def _smooth(job: Job, images: Array, number: int, halfway: Array, out: Array) -> None:
    """By half a Gaussian, which is the constant of that number."""
    (weights,) = job.table("weights", lambda: (job.constants[number],))
    reach = len(weights) - 1
    for kernel, source, target, rows, columns in (
        ("smooth_levels", images, halfway, job.height, job.width),
        ("smooth_to_levels", halfway, out, job.width, job.height),
    ):
        shape = corrupt_shapes.smooth(job.n, rows, 3 * columns, reach)
        args = (source, weights, np.int32(reach), np.int32(rows), np.int32(columns), target)
        job.device.launch(PROGRAM, kernel, shape, args)


def _gaussian(job: Job, halfway: Array) -> None:
    _smooth(job, job.images, 0, halfway, job.out)


def _columns(disk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a disk without the border of 0 around it, each with some 0 more: see `corrupt_shapes.column`."""
    reach = len(disk) // 2
    far = int(np.abs(np.argwhere(disk) - reach).max())
    columns = disk[reach - far : reach + far + 1, reach - far : reach + far + 1].T
    return np.pad(columns, ((0, 0), (0, corrupt_shapes.column(far) - len(columns))))


def _defocus(job: Job) -> None:
    (columns,) = job.table("disk", lambda: (_columns(job.constants[0]),))
    reach = len(columns) // 2
    shape = corrupt_shapes.defocus(job.n, job.height, job.width, reach)
    job.device.launch(PROGRAM, "defocus", shape, (*job.ends, columns, np.int32(reach)))


def _inner(job: Job) -> tuple[int, int, int]:
    """How far glass reaches, how many times, and the pixels that it moves each time."""
    _, reach, times = job.parameters
    return reach, times, (job.height - 2 * reach) * (job.width - 2 * reach)


def _glass_room(job: Job) -> tuple[Kind, ...]:
    _, times, inner = _inner(job)
    return _halfway(job), ((job.height, job.width, 3), "uint8"), ((times * inner,), "int32")


def _glass(job: Job, halfway: Array, blurred: Array, neighbors: Array) -> None:
    reach, times, inner = _inner(job)
    count = times * inner
    before: tuple[Any, ...] = (*job.draws(1), np.int32(count))
    width = np.int32(job.width)
    each_of(job, PROGRAM, "glass_neighbors", -(-count // 4), before, np.int32(reach), width, neighbors)
    _smooth(job, job.images, 1, halfway, blurred)
    # The result takes the moved pixels until they are smoothed.
    before = (blurred, np.int32(job.height), width, job.out)
    each_pixel(job, PROGRAM, "glass_move", before, neighbors, np.int32(reach), np.int32(times))
    _smooth(job, job.out, 1, halfway, job.out)


LAUNCHERS = {
    "gaussian_blur": by_parts(_gaussian, lambda job: (_halfway(job),)),
    "defocus_blur": _defocus,
    "glass_blur": by_parts(_glass, _glass_room),
}
