"""Launches of corrupt_fog.cu."""

from __future__ import annotations

import numpy as np

from apr_dali.corruptions import fog
from apr_dali.errors import InputError
from apr_dali.kernels.cuda import corrupt_shapes
from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.corrupt_parts import Array, Kind, by_parts, each_pixel, uniform_field
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_fog.cu", (("RANGE", corrupt_shapes.RANGE),), fused_multiply_add=False)
_MOST_SIDE = 1 << 15  # places in the map are int32


def _room(job: Job) -> tuple[Kind, ...]:
    side = fog.side(job.height, job.width)
    if side > _MOST_SIDE:
        words = f"images of {_MOST_SIDE} pixels a side at most, got {job.height} × {job.width}"
        raise InputError(f"fog's CUDA kernels take {words}: take the backend native, on the CPU")
    return ((side * side - 1,), "float64"), ((side, side), "float64"), ((3,), "float64")


def _fog(job: Job, heights: Array, maps: Array, ranges: Array) -> None:
    thickness, decay = map(np.float64, job.parameters)
    side, levels = np.int32(maps.shape[1]), np.int32(3 * job.height * job.width)
    uniform = uniform_field(job, 0, 0, 1, heights)
    job.device.launch(
        PROGRAM, "cloud", corrupt_shapes.cloud(job.n), (job.images, levels, uniform, decay, side, maps, ranges)
    )
    each_pixel(job, PROGRAM, "fog", job.ends, maps, side, ranges, thickness)


LAUNCHERS = {"fog": by_parts(_fog, _room)}
