"""Launches of corrupt_jpeg.cu."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions.digital import jpeg_steps
from apr_dali.kernels.cuda import launch, paths
from apr_dali.kernels.cuda.corrupt_job import Array, Job
from apr_dali.kernels.cuda.device import CudaDevice
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("corrupt_jpeg.cu", fused_multiply_add=False)
_PIXELS = 4  # of a row a thread, in `to_pixels`


def round_trip(device: CudaDevice, images: Array, quality: int, out: Array) -> None:
    """From `images` to `out`, uint8 (N, H, W, 3) both, on the device: through JPEG files of this quality."""
    n, height, width = map(int, images.shape[:3])
    down, across = -(-height // 16), -(-width // 16)
    sizes = (np.int32(height), np.int32(width))
    steps = paths.constant(device, ("jpeg", quality), lambda: _steps(quality))
    key = (device.key, "jpeg", n, down, across)

    def planes() -> tuple[Array, Array]:
        luma = device.empty((n, 16 * down, 16 * across), "uint8")
        return luma, device.empty((n, 2, 8 * down, 8 * across), "uint8")

    with paths.work.borrowed(key, planes) as between:
        shape, parts = launch.jpeg_squares(n, down * across)
        device.launch(PROGRAM, "to_planes", shape, (images, *sizes, np.int32(parts), *steps, *between))
        shape, parts = launch.elements(n, height * -(-width // _PIXELS))
        device.launch(PROGRAM, "to_pixels", shape, (*sizes, out, np.int32(parts), *between))


def _steps(quality: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    steps = np.stack(jpeg_steps(quality)).astype(np.float32)
    return steps, np.reciprocal(8 * steps)


def jpeg(job: Job) -> None:
    round_trip(job.device, job.images, job.parameters, job.out)


LAUNCHERS = {"jpeg_compression": jpeg}
