"""ImageNet-C's corruptions on a CUDA device, at most one gray level from the native ones, with the same draws.

Everything runs on CuPy's current stream of the current device and nothing waits for it. A corruption is a few launches
for a batch of any size. Repeated runs are equal bit for bit, however a batch is cut. A family of corruptions is a .cu
file and the module of the same name beside it: PROGRAM compiles the file, LAUNCHERS has a function for each corruption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.errors import InputError
from apr_dali.kernels.cuda import (
    corrupt_blur,
    corrupt_color,
    corrupt_elastic,
    corrupt_fog,
    corrupt_frost,
    corrupt_jpeg,
    corrupt_motion,
    corrupt_noise,
    corrupt_pixelate,
    corrupt_spatter,
    corrupt_zoom,
)
from apr_dali.kernels.cuda.corrupt_job import Cell, Job
from apr_dali.kernels.cuda.device import CudaDevice

Array = Any

FAMILIES = (
    corrupt_noise,
    corrupt_blur,
    corrupt_zoom,
    corrupt_motion,
    corrupt_frost,
    corrupt_fog,
    corrupt_color,
    corrupt_elastic,
    corrupt_pixelate,
    corrupt_jpeg,
    corrupt_spatter,
)

LAUNCHERS: dict[str, Callable[[Job], None]] = {
    name: launch for family in FAMILIES for name, launch in family.LAUNCHERS.items()
}
"""By name, what there are kernels for."""

MOST_LEVELS = 2**30
"""Of an image: places in it are int32 in the kernels."""


def corrupt(
    images: Array,
    cell: Cell,
    given: Sequence[NDArray[np.float64]],
    key: tuple[int, int],
    numbers: NDArray[np.uint64] | Array,
) -> Array:
    """See `apr_dali.corrupt`; uint8 (N, H, W, 3) on the device.

    given: the draws for all images, float64 (N, ...) each, on the host; none of them where the kernels draw by
    themselves, from the Philox stream of `key` for the images of these `numbers`, integers (N,) on the host or on the
    device, where they are taken on trust.
    """
    device, levels, out = _ends(images)
    if len(levels):
        on_host = [(values, "f8") for values in given]
        if isinstance(numbers, np.ndarray):
            own, *uploaded = device.put((numbers, "u8"), *on_host)
        else:
            own, uploaded = device.contiguous(numbers, "uint64"), device.put(*on_host)
        job = Job(device, cell, levels, out, uploaded, key, own)
        LAUNCHERS[cell.name](job)
    return out


def through_jpeg(images: Array, quality: int) -> Array:
    """See `apr_dali.kernels.jpeg.round_trip`; uint8 (N, H, W, 3) on the device."""
    device, levels, out = _ends(images)
    if len(levels):
        corrupt_jpeg.round_trip(device, levels, quality, out)
    return out


def _ends(images: Array) -> tuple[CudaDevice, Array, Array]:
    """The device, the images as the kernels take them, and room for what they give."""
    height, width = images.shape[1:3]
    if 3 * height * width > MOST_LEVELS:
        raise InputError(f"the CUDA kernels take images of {MOST_LEVELS // 3} pixels at most, got {height} × {width}")
    device = _device()
    levels = device.contiguous(images, "uint8")
    return device, levels, device.empty(levels.shape, "uint8")


def _device() -> CudaDevice:
    return CudaDevice()
