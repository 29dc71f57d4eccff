"""The definitions of truth as a backend: NumPy in float64, for tests. It is far too slow for anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali import pillow_ops, spectral
from apr_dali.draws import SingleDraws
from apr_dali.kernels.arrays import channels_last
from apr_dali.kernels.protocol import PairTask


def check() -> tuple[bool, str]:
    """Whether this backend can run here, and why not."""
    return True, f"NumPy {np.__version__}, float64, for tests"


def recombine(phase_of: NDArray[Any], amplitude_of: NDArray[Any], axes: str) -> NDArray[np.float64]:
    """See `apr_dali.recombine`."""
    return spectral.recombine(phase_of, amplitude_of, axes)


def pair(task: PairTask) -> NDArray[np.float64]:
    """See `apr_dali.pair`; always float64."""
    scales = (task.in_scale, task.in_bias, task.out_scale, task.out_bias)
    mixed = spectral.pair(task.images, task.partner, task.mix, *scales, task.axes)
    if task.with_clean:
        mixed = np.stack([spectral.pair(task.images, task.partner, False, *scales, task.axes), mixed], axis=1)
    if task.memory_format == "contiguous":
        return mixed
    return task.planes_of(np.ascontiguousarray(channels_last(mixed)))


def single(images: NDArray[np.uint8], draws: SingleDraws, overflow: str, axes: str) -> NDArray[np.uint8]:
    """See `apr_dali.single`."""
    return pillow_ops.single(images, draws, overflow, axes)
