"""Launches of corrupt_zoom.cu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import launch
from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_zoom.cu", fused_multiply_add=False)


def zoom_blur(job: Job) -> None:
    def tables() -> tuple[NDArray[Any], ...]:
        parts = [(table[..., 0].astype(np.int32), np.ascontiguousarray(table[..., 1:])) for table in job.constants]
        return (*parts[0], *parts[1])

    args = (*job.table("sources", tables), np.int32(len(job.parameters)))
    job.each(PROGRAM, "zoom_blur", 3, *args, shared=launch.LIGHTS)


LAUNCHERS = {"zoom_blur": zoom_blur}
