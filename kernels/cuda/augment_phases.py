"""VIPAug-G: APR-S with noise on the phase, as a step around cuFFT, where the bins beside each are seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apr_dali.draws import SingleDraws
from apr_dali.kernels.cuda import backend, paths
from apr_dali.kernels.cuda.augment_job import Job


def noisy_views(
    job: Job, views: SingleDraws, which: NDArray[np.int64], noise: NDArray[np.float32], vital: float, nonvital: float
) -> None:
    """APR-S with noise on the phase.

    which: (N,), the row of `noise` that is an image's, -1 for none. noise: (K, 3, H, W), zero frequency first. vital,
    nonvital: its standard deviation at vital and at other bins.
    """
    of_noise, of_image, *of_views = job.device.put((noise, "f4"), (which, "i4"), *backend.numbers_of(views))
    step = None  # APR-S itself
    if len(noise):
        held = of_noise, of_image, np.float32(vital), np.float32(nonvital)
        step = paths.Step("STEP_NOISE", held, around=True)
    dtype, bias = job.rounding
    backend.recombine_views(
        job.device, job.images, backend.DeviceDraws(*of_views), job.out, dtype, bias=bias, step=step
    )


LAUNCHERS = {"noisy_views": noisy_views}
