"""Launches of augment_hybrid.cu."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import paths
from apr_dali.kernels.cuda.augment_job import Job
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("augment_hybrid.cu")

Array = Any
Whole = NDArray[np.int64]


def hybrid(job: Job, partner: Whole, window: NDArray[np.float64], low_partner: Whole | None) -> None:
    """The low frequencies of each image and the high ones of its partner's.

    window: of the blur that gives the low ones, an odd number of weights. low_partner: who gives its low frequencies'
    amplitude to them, by APR-P; None leaves them.
    """
    numbers = [(window, "f4"), (partner, "i4")]
    if low_partner is not None:
        numbers.append((low_partner, "i4"))
    held, givers, *low_givers = job.device.put(*numbers)
    blur = held, np.int32(len(window) // 2)
    if not low_givers:
        job.each(PROGRAM, "mix_high", *blur, givers)
        return
    shape = (job.n, *job.shape)

    def make() -> tuple[Array, Array]:
        return job.device.empty(shape, "float32"), job.device.empty(shape, "float32")

    with paths.work.borrowed((job.device.key, "low", shape), make) as (low, mixed):
        job.each(PROGRAM, "blur", *blur, low)
        _exchange(job, low, low_givers[0], mixed)
        job.each(PROGRAM, "add_high", givers, low, mixed)


def _exchange(job: Job, low: Array, partner: Array, mixed: Array) -> None:
    """APR-P on planes."""
    channels = job.shape[0]
    same = paths.affine(job.device, np.ones(channels), np.zeros(channels))
    paths.recombine(
        paths.Job(
            job.device,
            job.n,
            job.shape,
            across_channels=channels > 1,
            inputs=(low, None),
            in_affine=same,
            out=mixed,
            dtype="float32",
            out_affine=same,
            partner=partner,
        )
    )


LAUNCHERS = {"hybrid": hybrid}
