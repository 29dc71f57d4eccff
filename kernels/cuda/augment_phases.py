"""VIPAug-G: APR-S with noise on the phase, as a step around cuFFT, where the bins beside each are seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apr_dali.draws import SingleDraws
from apr_dali.kernels.cuda import backend, paths
from apr_dali.kernels.cuda.augment_job import Job


def noisy_views(
    job: Job, views: SingleDraws, noisy: NDArray[np.int64], noise: NDArray[np.float32], vital: float, nonvital: float
) -> None:
    """APR-S with noise on the phase of the images `noisy`; see `VipAugDraws`. vital, nonvital: variances."""
    row_of = np.full(job.n, -1)
    row_of[noisy] = np.arange(len(noisy))
    step = None  # APR-S itself
    if len(noisy):
        deviations = np.float32(np.sqrt(vital)), np.float32(np.sqrt(nonvital))
        step = paths.Step("STEP_NOISE", (job.put(noise, "f4"), job.put(row_of, "i4"), *deviations), around=True)
    dtype, bias = job.rounding
    backend.recombine_views(job.device, job.images, views, job.out, dtype, bias=bias, step=step)


LAUNCHERS = {"noisy_views": noisy_views}
