"""Launches of corrupt_noise.cu."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda.corrupt_job import Job
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_noise.cu", fused_multiply_add=False)
_LEVELS = 8  # a thread
_WORDS = 2.0**32  # that there are


def gaussian(job: Job) -> None:
    job.each(PROGRAM, "normal_noise", _LEVELS, *job.draws(1), np.float32(job.parameters), np.int32(0))


def speckle(job: Job) -> None:
    job.each(PROGRAM, "normal_noise", _LEVELS, *job.draws(1), np.float32(job.parameters), np.int32(1))


def shot(job: Job) -> None:
    def tables() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
        shown, at_most = job.constants
        beyond = np.full((256, len(shown)), 2**32 - 1, np.uint32)
        beyond[:, :-1] = np.floor(at_most * _WORDS - 0.5).clip(0, _WORDS - 1)
        return beyond, shown.astype(np.uint8)

    beyond, shown = job.table("quantiles", tables)
    job.each(PROGRAM, "shot_noise", _LEVELS, *job.draws(1), beyond, shown, np.int32(len(shown) - 1))


def impulse(job: Job) -> None:
    # A uniform number is (word + 0.5) / 2^32.
    within = max(0, min(math.floor(job.parameters * _WORDS - 0.5) + 1, 2**32))
    job.each(PROGRAM, "impulse_noise", _LEVELS, *job.draws(2), np.uint64(within))


LAUNCHERS = {"gaussian_noise": gaussian, "shot_noise": shot, "impulse_noise": impulse, "speckle_noise": speckle}
