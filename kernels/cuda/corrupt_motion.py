"""Launches of corrupt_motion.cu."""

from __future__ import annotations

from typing import Any

import numpy as np

from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.corrupt_parts import Array, Kind, by_parts, each_of, each_pixel, normal_field
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_motion.cu", fused_multiply_add=False)


def _line(job: Job, fields: int, angles: tuple[float, float], weights: Array, steps: Array) -> tuple[Any, ...]:
    """What moves pixels along a line whose angle is the last field of the draws: the end of the kernels' arguments."""
    draws, count = job.draws(fields), np.int32(len(weights))
    before = (*draws[:3], np.int32(fields - 1), draws[-1], *map(np.float64, angles), count)
    each_of(job, PROGRAM, "line_steps", len(weights), before, steps)
    return steps, weights, count


def _steps(job: Job, number: int) -> Kind:
    return ((len(job.constants[number]), 2), "int32")


def _motion(job: Job, steps: Array) -> None:
    (weights,) = job.table("weights", lambda: (job.constants[0],))
    each_pixel(job, PROGRAM, "move_image", job.ends, *_line(job, 1, (-45, 45), weights, steps))


def _snow_room(job: Job) -> tuple[Kind, ...]:
    field = (job.height, job.width)
    return (field, "float64"), (field, "uint8"), (field, "uint8"), _steps(job, 1)


def _snow(job: Job, noise: Array, still: Array, flakes: Array, steps: Array) -> None:
    weights, down, across = job.table("line and sources", lambda: tuple(job.constants[1:]))
    location, scale, threshold, kept = job.constants[0]
    sizes = (np.int32(job.height), np.int32(job.width))
    drawn = normal_field(job, 0, location, scale, noise)
    each_pixel(job, PROGRAM, "still_flakes", (drawn, *sizes), down, across, np.float64(threshold), still)
    each_pixel(job, PROGRAM, "move_flakes", (still, *sizes, flakes), *_line(job, 2, (-135, -45), weights, steps))
    each_pixel(job, PROGRAM, "cover", job.ends, flakes, np.float32(kept), np.float32(1 - kept))


LAUNCHERS = {
    "motion_blur": by_parts(_motion, lambda job: (_steps(job, 0),)),
    "snow": by_parts(_snow, _snow_room),
}
