"""Launches of corrupt_spatter.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from apr_dali.kernels.cuda import corrupt_shapes
from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.corrupt_parts import Array, Kind, by_parts, each_pixel, normal_field
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_spatter.cu", (*corrupt_shapes.SMOOTH, *corrupt_shapes.DROPS), fused_multiply_add=False)


def _room(job: Job) -> tuple[Kind, ...]:
    height, width = job.height, job.width
    field = (height, width)
    fields: tuple[Kind, ...] = ((field, "float64"), ((width, height), "float64"), (field, "float64"))
    if len(job.constants[2]):
        return *fields, (field[::-1], "float32"), (field, "float32")
    return (
        *fields,
        ((3, *field), "uint8"),
        ((height + 2 * corrupt_shapes.BORDER, width + 2 * corrupt_shapes.BORDER), "float32"),
        ((width + 2 * corrupt_shapes.STEPS,), "float32"),
        (field, "int32"),
        ((1,), "int32"),
    )


def _smooth(job: Job, kernels: tuple[str, str], buffers: tuple[Array, Array, Array], number: int, *last: Any) -> None:
    """From the first buffer by way of the second to the third, by half a Gaussian, the constant of that number."""
    (weights,) = job.table(number, lambda: (job.constants[number],))
    reach = len(weights) - 1
    source, halfway, out = buffers
    for kernel, given, target, rows, columns, more in (
        (kernels[0], source, halfway, job.height, job.width, last),
        (kernels[1], halfway, out, job.width, job.height, ()),
    ):
        sizes = (np.int32(reach), np.int32(rows), np.int32(columns))
        shape = corrupt_shapes.smooth(job.n, rows, columns, reach)
        job.device.launch(PROGRAM, kernel, shape, (given, weights, *sizes, *more, target))


def _spatter(job: Job, noise: Array, halfway: Array, liquid: Array, *room: Array) -> None:
    location, scale, threshold, strength = job.constants[0]
    drawn = normal_field(job, 0, location, scale, noise)
    _smooth(job, ("smooth_liquid", "smooth_liquid"), (drawn, halfway, liquid), 1)
    if len(job.constants[2]):
        _smooth(job, ("smooth_mud", "smooth_mud_again"), (liquid, *room), 2, np.float64(threshold))
        each_pixel(job, PROGRAM, "cover_with_mud", job.ends, room[1])
        return
    levels, distances, lines, drops, highest = room
    sizes = (np.int32(job.height), np.int32(job.width))
    args = (liquid, *sizes, np.float64(threshold), levels, distances, lines, drops, highest)
    job.device.launch(PROGRAM, "light_on_drops", corrupt_shapes.drops(job.n), args)
    each_pixel(job, PROGRAM, "cover_with_water", job.ends, drops, highest, np.float32(strength))


LAUNCHERS = {"spatter": by_parts(_spatter, _room)}
