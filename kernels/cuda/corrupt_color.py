"""Launches of corrupt_color.cu."""

from __future__ import annotations

import numpy as np

from apr_dali.kernels.cuda import launch, paths
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


def contrast(job: Job) -> None:
    shape, parts = launch.shares(job.n, -(-job.height * job.width // _PIXELS))
    sizes = (np.int32(job.height), np.int32(job.width))
    key = (job.device.key, "sums", job.n, parts)
    with paths.work.borrowed(key, lambda: job.device.empty((job.n, parts, 3), "uint64")) as sums:
        args = (job.images, *sizes, np.int32(parts), sums)
        job.device.launch(PROGRAM, "channel_sums", shape._replace(shared=launch.CHANNEL_SUMS), args)
        args = (*job.ends, np.int32(parts), sums, np.float64(job.parameters))
        job.device.launch(PROGRAM, "contrast", shape._replace(shared=launch.CHANNEL_TABLES), args)


LAUNCHERS = {"brightness": brightness, "contrast": contrast, "saturate": saturate}
