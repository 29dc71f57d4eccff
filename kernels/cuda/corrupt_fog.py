"""Launches of corrupt_fog.cu."""

from __future__ import annotations

import numpy as np

from apr_dali.corruptions import fog
from apr_dali.errors import InputError
from apr_dali.kernels.cuda import corrupt_shapes
from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.corrupt_parts import Array, Kind, by_parts, each_pixel, uniform_field
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_fog.cu", corrupt_shapes.CLOUD, fused_multiply_add=False)
_MOST_SIDE = 1 << 15  # places in the map are int32


def _room(job: Job) -> tuple[Kind, ...]:
    side = fog.side(job.height, job.width)
    if side > _MOST_SIDE:
        words = f"images of {_MOST_SIDE} pixels a side at most, got {job.height} × {job.width}"
        raise InputError(f"fog's CUDA kernels take {words}: take the backend native, on the CPU")
    clouds = ((job.height, job.width), "float64")
    return ((side * side - 1,), "float64"), clouds, ((corrupt_shapes.tiles(side), 3), "float64"), ((3,), "float64")


def _fog(job: Job, heights: Array, clouds: Array, of_tiles: Array, ranges: Array) -> None:
    thickness, decay = map(np.float64, job.parameters)
    side = fog.side(job.height, job.width)
    sizes = np.int32(job.height), np.int32(job.width)
    uniform = uniform_field(job, 0, 0, 1, heights)
    made = (job.images, *sizes, uniform, decay, np.int32(side), clouds, of_tiles)
    job.device.launch(PROGRAM, "cloud", corrupt_shapes.cloud(job.n, side), made)
    joined = (of_tiles, np.int32(corrupt_shapes.tiles(side)), ranges)
    job.device.launch(PROGRAM, "whole_range", corrupt_shapes.whole_range(job.n), joined)
    each_pixel(job, PROGRAM, "fog", job.ends, clouds, ranges, thickness)


LAUNCHERS = {"fog": by_parts(_fog, _room)}
