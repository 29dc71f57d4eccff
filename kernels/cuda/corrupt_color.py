"""Launches of corrupt_color.cu."""

from __future__ import annotations

import numpy as np

from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_color.cu", fused_multiply_add=False)
_SATURATION, _VALUE = np.int32(1), np.int32(2)
_PIXELS = 4  # a thread


def _change(job: Job, channel: np.int32, factor: float, added: float) -> None:
    job.each(PROGRAM, "change_hsv", 3 * _PIXELS, channel, np.float64(factor), np.float64(added))


def brightness(job: Job) -> None:
    _change(job, _VALUE, 1.0, job.parameters)


def saturate(job: Job) -> None:
    _change(job, _SATURATION, *job.parameters)


LAUNCHERS = {"brightness": brightness, "saturate": saturate}
