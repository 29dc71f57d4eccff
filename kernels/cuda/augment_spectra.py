"""Amplitudes mixed with another image's, and spectra scaled bin by bin: steps of the passes of APR-P."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import launch, paths
from apr_dali.kernels.cuda.augment_job import Job
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("augment_gains.cu")
STEPS = ("STEP_BLEND", "STEP_SCALE")
"""What APR's programs are compiled with for these; see steps.cuh."""

Array = Any


def amplitudes(job: Job, partner: NDArray[np.int64], share: NDArray[np.float64], box: NDArray[np.int64]) -> None:
    """Amplitude (1 - w)·A_i + w·A_j, each channel by itself; w is `share` in a box of frequencies, 0 around it.

    share: (N,). box: (N, 4), the first and the last row, the first and the last column, signed.
    """
    *held, givers = job.device.put((share, "f4"), (box, "i4"), (partner, "i4"))
    _change(job, paths.Step("STEP_BLEND", tuple(held)), givers)


def gains(
    job: Job,
    gain: NDArray[np.floating],
    shift: NDArray[np.float64],
    masked: NDArray[np.int64],
    center: NDArray[np.int64],
    sigma: NDArray[np.float64],
) -> None:
    """Spectra times gain·e^{i·shift}, the same for all channels.

    gain: (N, H, W // 2 + 1). shift: (N,), radians. masked: (K,), images of whose gain Gaussians are cut out. center,
    sigma: (K, G, 2), their rows and columns, in bins.
    """
    gaussians = np.concatenate([center, np.sqrt(0.5) / sigma], axis=-1)
    turns = np.stack([np.cos(shift), np.sin(shift)], axis=-1)
    *held, which, cut = job.device.put((gain, "f4"), (turns, "f4"), (masked, "i4"), (gaussians, "f4"))
    if gaussians.size:
        _cut_out(job, held[0], which, cut)
    _change(job, paths.Step("STEP_SCALE", tuple(held)))


def _cut_out(job: Job, gain: Array, masked: Array, gaussians: Array) -> None:
    rows, columns = gain.shape[1:]
    shape, parts = launch.elements(len(masked), rows * columns)
    sizes = np.int32(parts), np.int32(rows), np.int32(columns)
    job.device.launch(PROGRAM, "cut_out", shape, (gain, masked, *sizes, gaussians, np.int32(gaussians.shape[1])))


def _change(job: Job, step: paths.Step, partner: Array | None = None) -> None:
    dtype, bias = job.rounding
    channels = job.shape[0]
    paths.recombine(
        paths.Job(
            job.device,
            job.n,
            job.shape,
            across_channels=False,
            inputs=(job.images, None),
            in_affine=paths.affine(job.device, np.ones(channels), np.zeros(channels)),
            out=job.out,
            dtype=dtype,
            out_affine=paths.affine(job.device, np.ones(channels), np.full(channels, bias)),
            partner=partner,
            step=step,
        )
    )


LAUNCHERS = {"amplitudes": amplitudes, "gains": gains}
