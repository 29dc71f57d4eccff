"""The augmentations beside APR in C++: a batch in, a batch out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cpu.backend import POOL, contiguous, extension, threads_of

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class NativeBatch:
    """Images that the native backend augments.

    images: uint8 (N, H, W, C) or float32 (N, C, H, W). overflow: how values become uint8, None for float32.
    threads: None takes every CPU that this process may run on. check_bounds: gets the least and the greatest value of
    float32 images, both nan if one is, from those functions that take values in 0..1; what it raises comes through.
    """

    images: Array
    overflow: str | None
    threads: int | None = None
    check_bounds: Callable[[float, float], None] | None = None

    def run(self, function: str, *numbers: Any) -> Array:
        """The result of a function of the extension, like `images`. numbers: arrays, which it gets as float64 or int64,
        lists of such, and others as they are."""
        return self.run_with(function, *map(_as_taken, numbers))

    def run_with(self, function: str, *values: Any) -> Array:
        """The same with values of the very types that the function takes; arrays are made contiguous."""
        out = POOL.empty(self.images.shape, self.images.dtype)
        how = self.overflow or "clamp", threads_of(self.threads)
        images = contiguous(self.images)
        given = (contiguous(value) if isinstance(value, np.ndarray) else value for value in values)
        bounds = getattr(extension(), function)(images, out, *how, *given)
        if self.check_bounds is not None and bounds is not None:
            self.check_bounds(*bounds)
        return out


def _as_taken(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return contiguous(value, np.int64 if value.dtype.kind in "iu" else np.float64)
    return [_as_taken(each) for each in value] if isinstance(value, list | tuple) else value
