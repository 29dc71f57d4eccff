"""Launches of corrupt_elastic.cu."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import corrupt_shapes
from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.corrupt_parts import Array, Kind, by_parts, each_pixel, uniform_field
from apr_dali.kernels.cuda.launch import Launch
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_elastic.cu", corrupt_shapes.PRODUCT, fused_multiply_add=False)
_MAP_THREADS = 64


def smoothing_matrix(size: int, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """What smooths a line of `size` numbers, mirrored at its ends with the outer ones repeated, by half a Gaussian;
    symmetric, with columns of 0 behind its own."""
    # The mirrored line comes again and again: a number counts with all weights that lie a period apart.
    off = np.arange(1 - len(weights), len(weights))
    periodic = np.bincount(off % (2 * size), weights[abs(off)], 2 * size)
    places = np.arange(size)
    itself, image = places - places[:, None], -1 - places - places[:, None]
    matrix = periodic[itself % (2 * size)] + periodic[image % (2 * size)]
    return np.pad(matrix, ((0, 0), (0, corrupt_shapes.padding(size))))


def _room(job: Job) -> tuple[Kind, ...]:
    field, turned = (job.height, job.width), (job.width, job.height)
    smooth: Kind = (field, "float32")
    return (field, "float64"), (turned, "float64"), smooth, smooth, ((6,), "float32"), ((*field, 3), "float32")


def _smooth(job: Job, noise: Array, halfway: Array, out: Array) -> None:
    height, width, weights = job.height, job.width, job.constants[1]
    down, across = job.table("matrices", lambda: tuple(smoothing_matrix(size, weights) for size in (height, width)))
    for kernel, matrix, source, rows, columns, target in (
        ("smooth_down", down, noise, height, width, (halfway,)),
        ("smooth_across", across, halfway, width, height, (np.float64(job.constants[0][0]), out)),
    ):
        shape = corrupt_shapes.product(job.n, rows, columns)
        # Where the Gaussian is longer than the image its mirror images reach everywhere.
        reach = rows if len(weights) > rows else len(weights) - 1
        sizes = (np.int32(matrix.shape[1]), np.int32(reach))
        job.device.launch(PROGRAM, kernel, shape, (matrix, *sizes, source, np.int32(rows), np.int32(columns), *target))


def _elastic(job: Job, noise: Array, halfway: Array, across: Array, down: Array, maps: Array, moved: Array) -> None:
    height, width = np.int32(job.height), np.int32(job.width)
    for field, shifts in ((1, across), (2, down)):
        _smooth(job, uniform_field(job, field, -1, 1, noise), halfway, shifts)
    draws = job.draws(3)[:4]
    shape = Launch(-(-job.n // _MAP_THREADS), _MAP_THREADS)
    farthest = np.float64(job.constants[0][1])
    job.device.launch(PROGRAM, "affine_maps", shape, (*draws, np.int32(job.n), height, width, farthest, maps))
    each_pixel(job, PROGRAM, "warp", (job.images, height, width), maps, moved)
    each_pixel(job, PROGRAM, "displace", (moved, height, width), across, down, job.out)


LAUNCHERS = {"elastic_transform": by_parts(_elastic, _room)}
