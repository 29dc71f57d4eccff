"""Batches in parts whose buffers between kernels fit into a limit, and fields of random numbers in such buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from apr_dali.kernels.cuda import launch, paths
from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.nvrtc import Program

Array = Any
Kind = tuple[tuple[int, ...], str]
"""The shape of a buffer for an image, and its type."""

ROOM = 1 << 28
"""Bytes that the buffers of one call take at most, if they are not those of a single image."""

FIELDS = Program("corrupt_fields.cu", fused_multiply_add=False)
_STAGED = 9 * 8


def by_parts(run: Callable[..., None], room: Callable[[Job], tuple[Kind, ...]]) -> Callable[[Job], None]:
    """A launcher: run(job, *buffers) for as many images at a time as there is room for, with a buffer of each kind."""

    def start(job: Job) -> None:
        kinds = room(job)
        size = sum(prod(shape) * np.dtype(dtype).itemsize for shape, dtype in kinds)
        parts = -(-job.n // max(1, ROOM // size))
        count = -(-job.n // parts)  # alike: a last part of one image would take as long as many

        def make() -> tuple[Array, ...]:
            return tuple(job.device.empty((count, *shape), dtype) for shape, dtype in kinds)

        with paths.work.borrowed((job.device.key, "corruption", count, kinds), make) as buffers:
            for first in range(0, job.n, count):
                part = _part(job, slice(first, first + count))
                run(part, *(buffer[: part.n] for buffer in buffers))

    return start


def _part(job: Job, images: slice) -> Job:
    own = {name: getattr(job, name)[images] for name in ("images", "out", "numbers")}
    return replace(job, given=[field[images] for field in job.given], **own)


def each_pixel(job: Job, program: Program, kernel: str, before: tuple[Any, ...], *after: Any) -> None:
    """Launch a kernel with a thread for each pixel, a `Place` of places.cuh; `parts` comes between its arguments."""
    each_of(job, program, kernel, job.height * job.width, before, *after)


def each_of(
    job: Job, program: Program, kernel: str, count: int, before: tuple[Any, ...], *after: Any, shared: int = 0
) -> None:
    """Launch a kernel with a thread for each of `count` things of an image, and bytes of shared memory a thread."""
    shape, parts = launch.elements(job.n, count)
    shape = shape._replace(shared=shared * shape.block)
    job.device.launch(program, kernel, shape, (*before, np.int32(parts), *after))


def uniform_field(job: Job, field: int, low: float, high: float, room: Array) -> Array:
    """Field number `field` of the draws, uniform in low..high: what is given, or drawn into `room`, (n, count)."""
    return _field(job, "uniform_field", field, low, high, room)


def normal_field(job: Job, field: int, location: float, scale: float, room: Array) -> Array:
    """The same with normal numbers."""
    return _field(job, "normal_field", field, location, scale, room)


def _field(job: Job, kernel: str, field: int, first: float, second: float, room: Array) -> Array:
    if job.given:
        return job.given[field]
    count = prod(room.shape[1:])
    before = (*job.draws(0), np.int32(field), np.int32(count))
    after = (np.float64(first), np.float64(second), room)
    each_of(job, FIELDS, kernel, -(-count // 8), before, *after, shared=_STAGED)
    return room
