"""The augmentations beside APR on a CUDA device: a batch in, a batch out, by the same numbers as in C++.

Everything runs on CuPy's current stream of the current device and nothing waits for it. A family is a module with
LAUNCHERS, a function of a `Job` and the numbers for each name; its kernels are in the .cu file of the same name, or
are steps of APR's own: see steps.cuh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from apr_dali.errors import InputError
from apr_dali.kernels.cuda import augment_hybrid, augment_phases, augment_prime, augment_spectra, augment_waves
from apr_dali.kernels.cuda.augment_job import Job
from apr_dali.kernels.cuda.device import CudaDevice

Array = Any

FAMILIES = (augment_waves, augment_spectra, augment_hybrid, augment_phases, augment_prime)

LAUNCHERS: dict[str, Callable[..., None]] = {
    name: launch for family in FAMILIES for name, launch in family.LAUNCHERS.items()
}
"""By name, what there are kernels for; see `CudaBatch.run`."""

MOST_VALUES = 2**30
"""Of an image: places in it are int32 in the kernels."""


@dataclass(frozen=True, eq=False)
class CudaBatch:
    """Images that the cupy backend augments, on the device.

    images: uint8 (N, H, W, C) or floating (N, C, H, W), which is computed in float32. overflow: how values become
    uint8, None for floating images.
    """

    images: Array
    overflow: str | None

    def run(self, function: str, *numbers: Any) -> Array:
        """The result of one of LAUNCHERS, uint8 or float32. numbers: those it takes, on the host."""
        if self.images[:1].size > MOST_VALUES:
            shape = " × ".join(map(str, self.images.shape[1:]))
            raise InputError(f"the CUDA kernels take images of {MOST_VALUES} values at most, got {shape}: take torch")
        device = _device()
        given = device.contiguous(self.images, "float32" if self.overflow is None else "uint8")
        out = device.empty(given.shape, given.dtype)
        if out.size:
            LAUNCHERS[function](Job(device, given, out, self.overflow), *numbers)
        return out


def _device() -> CudaDevice:
    return CudaDevice()
