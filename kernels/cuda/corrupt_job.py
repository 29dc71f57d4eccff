"""One corruption of one batch on a CUDA device: what the launchers of the corruptions' kernels are given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions import find
from apr_dali.corruptions.record import Constants, Parameters
from apr_dali.kernels.cuda import launch, nvrtc, paths
from apr_dali.kernels.cuda.device import NULL, CudaDevice

Array = Any


class Cell(NamedTuple):
    """Which corruption, how much of it, and by whose parameters."""

    name: str
    severity: int
    parameter_set: str


@dataclass(frozen=True)
class Job:
    """From `images` to `out`, uint8 (N, H, W, 3) both, on the device.

    given: the draws of all images, float64 (N, ...) for each field; none of them where the kernels draw by themselves,
    from the Philox stream of `key` for the images of these `numbers`, uint64 (N,).
    """

    device: CudaDevice
    cell: Cell
    images: Array
    out: Array
    given: Sequence[Array]
    key: tuple[int, int]
    numbers: Array

    @property
    def n(self) -> int:
        return int(self.images.shape[0])

    @property
    def height(self) -> int:
        return int(self.images.shape[1])

    @property
    def width(self) -> int:
        return int(self.images.shape[2])

    @cached_property
    def parameters(self) -> Parameters:
        return find(*self.cell)[1]

    @cached_property
    def constants(self) -> Constants:
        """Those of the native operator, on the host."""
        return find(*self.cell)[0].constants(self.parameters, self.height, self.width)

    @property
    def ends(self) -> tuple[Any, ...]:
        """IMAGE_PARAMETERS of levels.cuh."""
        return (self.images, np.int32(self.height), np.int32(self.width), self.out)

    def draws(self, fields: int) -> tuple[Any, ...]:
        """DRAW_PARAMETERS of random.cuh, and for each of so many fields the given numbers, or a null pointer."""
        given = tuple(self.given) or (NULL,) * fields
        return (np.uint64(self.key[0]), np.uint64(self.key[1]), self.numbers, *given)

    def table(self, what: Hashable, make: Callable[[], tuple[NDArray[Any], ...]]) -> tuple[Array, ...]:
        """Small tables that depend on the corruption and the size alone, made and uploaded once."""
        return paths.constant(self.device, ("corruption", *self.cell, self.height, self.width, what), make)

    def each(self, program: nvrtc.Program, kernel: str, levels: int, *args: Any, shared: int = 0) -> None:
        """Launch a kernel whose threads take `levels` neighboring levels of an image each: a `Share` of levels.cuh.

        shared: bytes of shared memory of a block.
        """
        shape, parts = launch.elements(self.n, -(-3 * self.height * self.width // levels))
        self.device.launch(program, kernel, shape._replace(shared=shared), (*self.ends, np.int32(parts), *args))
