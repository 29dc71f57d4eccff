"""What every backend has: the three operators, and what one batch of APR-P is made of.

Arguments come from `apr_dali.functional`, checked, and as arrays of the backend's own kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.arrays import channels_first, dtype_name

Array = Any
"""NumPy's, torch's or CuPy's, by the backend."""


@dataclass(frozen=True)
class PairTask:
    """APR-P of one batch; see `apr_dali.pair` for what its fields mean.

    images: uint8 (N, H, W, C) or floating (N, C, H, W). partner: integers (N,), of NumPy or on the device. mix: the
    coin; the cupy backend takes an array of one flag, too. in_scale, in_bias, out_scale, out_bias: float64 (C,).
    """

    images: Array
    partner: Array
    mix: Any
    in_scale: NDArray[np.float64]
    in_bias: NDArray[np.float64]
    out_scale: NDArray[np.float64]
    out_bias: NDArray[np.float64]
    dtype: str = "float32"
    axes: str = "chw"
    with_clean: bool = False
    intermediates: str = "float32"
    memory_format: str = "contiguous"

    @cached_property
    def planes(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        first, second, third = map(int, self.images.shape[1:])
        return (third, first, second) if dtype_name(self.images.dtype) == "uint8" else (first, second, third)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Of the result as it lies in memory: (N, C, H, W), or with the clean images (N, 2, C, H, W); C comes last with
        channels_last."""
        channels, height, width = self.planes
        image = (height, width, channels) if self.memory_format == "channels_last" else self.planes
        return (len(self.images), *((2,) if self.with_clean else ()), *image)

    def planes_of(self, out: Array) -> Array:
        """What lies in memory as `out_shape` says, as the view (N, C, H, W) or (N, 2, C, H, W) that backends return."""
        return channels_first(out) if self.memory_format == "channels_last" else out


class KernelBatch(Protocol):
    """Images that an augmentation's kernels change, in C++ or on a CUDA device."""

    @property
    def images(self) -> Array:
        """uint8 (N, H, W, C) or floating (N, C, H, W)."""

    def run(self, function: str, *numbers: Any) -> Array:
        """The result of the kernels of that name, like `images`."""


class Backend(Protocol):
    """A module or an object that runs the operators. Results are its own kind of array, on the inputs' device."""

    def check(self) -> tuple[bool, str]:
        """Whether it can run here, and why not, or which version it is. May raise ImportError with the reason."""

    def recombine(self, phase_of: Array, amplitude_of: Array, axes: str) -> Array:
        """Floating (N, C, H, W) of one shape and dtype, to the same."""

    def pair(self, task: PairTask) -> Array:
        """`task.planes_of` an array in `task.dtype`; bfloat16, where its kind lacks it, as 16 bits of an integer."""

    def single(self, images: Array, draws: Any, overflow: str, axes: str) -> Array:
        """uint8 (N, H, W, 3) to the same. draws: `SingleDraws`, or what a backend has for them on its device."""
