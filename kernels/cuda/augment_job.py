"""One augmentation of one batch on a CUDA device: what the launchers of the augmentations' kernels are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from apr_dali.kernels.cuda import launch, nvrtc, paths
from apr_dali.kernels.cuda.device import CudaDevice
from apr_dali.spectral import TRUNCATION_SLACK

Array = Any

_VALUES = 4  # a thread


@dataclass(frozen=True)
class Job:
    """From `images` to `out`, both uint8 (N, H, W, C) or float32 (N, C, H, W), on the device.

    overflow: how values become uint8, None for float32.
    """

    device: CudaDevice
    images: Array
    out: Array
    overflow: str | None

    @property
    def n(self) -> int:
        return int(self.images.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        first, second, third = map(int, self.images.shape[1:])
        return (first, second, third) if self.overflow is None else (third, first, second)

    @property
    def top(self) -> float:
        """The value of a pixel that is 1 in 0..1."""
        return 1.0 if self.overflow is None else 255.0

    @property
    def rounding(self) -> tuple[str, float]:
        """How results become what they are, as `paths.Job.dtype`, and what is added before."""
        if self.overflow == "truncate":
            # Rounding half a level below the value, which clips as well.
            return "clamp", TRUNCATION_SLACK - 0.5
        return self.overflow or "float32", 0.0

    @property
    def ends(self) -> tuple[Any, ...]:
        """BATCH_PARAMETERS of values.cuh."""
        kind, bias = self.rounding
        return (self.images, self.out, paths.out_kind(kind), *map(np.int32, self.shape), np.float32(bias))

    def each(self, program: nvrtc.Program, kernel: str, *args: Any) -> None:
        """Launch a kernel whose threads take four neighboring values of an image each: a `Quad` of values.cuh."""
        channels, height, width = self.shape
        shape, parts = launch.elements(self.n, -(-channels * height * width // _VALUES))
        self.device.launch(program, kernel, shape, (*self.ends, np.int32(parts), *args))
