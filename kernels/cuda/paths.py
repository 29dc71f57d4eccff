"""The three ways to recombine a batch on a CUDA device: one kernel, three kernels, or kernels around cuFFT."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda import launch, nvrtc
from apr_dali.kernels.cuda.device import NULL, Cache, CudaDevice

Array = Any

_LEVELS_IN, _FLOATS_IN = 0, 1
_OUT_KINDS = {"float32": 0, "float16": 1, "bfloat16": 2, "wrap": 3, "clamp": 4}
_log = logging.getLogger(__name__)

work = Cache(limit=8)
"""Buffers between kernels, and plans."""
constants = Cache(limit=256)
"""Small tables."""


def out_kind(name: str) -> np.int32:
    """A type of results, or how levels overflow, as an OutKind of pixels.cuh."""
    return np.int32(_OUT_KINDS[name])


def constant(
    device: CudaDevice, what: tuple[Hashable, ...], make: Callable[[], tuple[NDArray[Any], ...]]
) -> tuple[Array, ...]:
    """Small tables on the device, made and copied there once for a stream."""
    return constants.shared((device.key, *what), lambda: tuple(device.put(*((each, each.dtype) for each in make()))))


def affine(device: CudaDevice, scale: NDArray[np.float64], bias: NDArray[np.float64]) -> tuple[Array, ...]:
    """Scales and biases of channels, float32 on the device."""
    what = ("affine", scale.tobytes(), bias.tobytes())
    return constant(device, what, lambda: (scale.astype(np.float32), bias.astype(np.float32)))


@dataclass(frozen=True)
class Step:
    """What is done to spectra in place of the exchange of amplitudes: its definition, and its STEP_PARAMETERS; see
    steps.cuh. around: whether it looks at the bins around each, which cuFFT's spectra alone allow."""

    definition: str
    args: tuple[Any, ...]
    around: bool = False


@dataclass
class Job:
    """A recombination of `n` results, with the arguments that the kernels of every path have in common.

    shape: (C, H, W). inputs: one array, where `partner` gives the amplitudes, or two. mix: one flag or one per result;
    None for all. swap: see route.cuh. dtype: of the result, or how levels overflow. clean: whether the unmixed view
    is written too. half: whether spectra are kept as float16 between the fused kernels. channels_last: how numbers,
    which are no levels, are written. step: in place of the exchange of amplitudes.
    """

    device: CudaDevice
    n: int
    shape: tuple[int, int, int]
    across_channels: bool
    inputs: tuple[Array, Array | None]
    in_affine: tuple[Array, ...]
    out: Array
    dtype: str
    out_affine: tuple[Array, ...]
    partner: Array | None = None
    mix: Array | None = None
    swap: Array | None = None
    views: int = 1
    clean: bool = False
    half: bool = False
    channels_last: bool = False
    step: Step | None = None

    @property
    def slots(self) -> int:
        """Images that are transformed."""
        return self.n if self.inputs[1] is None else 2 * self.n

    @property
    def source(self) -> tuple[Any, ...]:
        first, second = self.inputs
        kind = np.int32(_LEVELS_IN if first.dtype == np.uint8 else _FLOATS_IN)
        return (first, first if second is None else second, kind, *self.in_affine)

    @cached_property
    def route(self) -> tuple[Any, ...]:
        stride = 0 if self.mix is None or self.mix.size == 1 else 1
        partner, mix, swap = (NULL if array is None else array for array in (self.partner, self.mix, self.swap))
        return (partner, mix, np.int32(stride), swap, np.int32(self.n))

    def target(self, data: Array) -> tuple[Any, ...]:
        return (data, out_kind(self.dtype), np.int32(self.views), *self.out_affine)

    def program(self, program: nvrtc.Program) -> nvrtc.Program:
        """The program as it does and writes what is asked for."""
        if self.step is not None:
            program = nvrtc.with_step(program, self.step.definition)
        return nvrtc.writing_channels_last(program) if self.channels_last else program

    @property
    def step_args(self) -> tuple[Any, ...]:
        return () if self.step is None else self.step.args

    @property
    def clean_target(self) -> tuple[Any, ...]:
        return self.target(self.out if self.clean else NULL)

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.device.key, self.slots, self.n, self.shape, self.across_channels)

    @property
    def factor(self) -> float:
        """What the inverse transforms leave out."""
        channels, height, width = self.shape
        return 1 / ((channels if self.across_channels else 1) * height * width)


def recombine(job: Job) -> None:
    """Fill `job.out`, computing in float32, on the path for the shape."""
    channels, height, width = job.shape
    path = launch.path(height, width, channels)
    if job.step is not None and job.step.around:
        _generic(job)
    elif path == "whole":
        _whole(job)
    elif path == "fused":
        _fused(job)
    else:
        _say_once(height, width, channels)
        _generic(job)


def write_clean(job: Job) -> None:
    """Fill `job.out` with the images as they are, but for scale and bias."""
    _before(job, NULL)


@cache
def _say_once(height: int, width: int, channels: int) -> None:
    sizes = ", ".join(map(str, (*launch.WHOLE_SIZES, *launch.FUSED_SIZES)))
    _log.warning(
        "images of %d × %d × %d are recombined with cuFFT: the fused kernels are for squares of %s with 3 channels",
        *(height, width, channels, sizes),
    )


def _twiddles(device: CudaDevice, size: int) -> Array:
    """What a transform of `size` points multiplies with between its two steps, complex64 (second, first)."""

    def make() -> tuple[NDArray[np.complex64]]:
        first, second = launch.factors(size)
        twiddles = np.outer(np.arange(second), np.arange(first)) / size
        return (np.exp(-2j * np.pi * twiddles).astype(np.complex64),)

    return constant(device, ("twiddles", size), make)[0]


def _whole(job: Job) -> None:
    size, across = job.shape[1], job.across_channels
    tail = (_twiddles(job.device, size), np.float32(job.factor), np.int32(job.clean))
    args = (*job.source, *job.route, *job.target(job.out), *tail, *job.step_args)
    job.device.launch(job.program(nvrtc.whole(size, across)), "whole_images", launch.whole(size, job.n, across), args)


def check_fused(shape: tuple[int, int, int]) -> None:
    """Raise ValueError where the three kernels, which alone know float16 intermediates, are not for this shape."""
    channels, height, width = shape
    if launch.path(height, width, channels) != "fused":
        sizes = ", ".join(map(str, launch.FUSED_SIZES))
        raise ValueError(
            f"intermediates float16 are for squares of {sizes} with 3 channels, got {height} × {width} × {channels}"
        )


def _fused(job: Job) -> None:
    device, size, across = job.device, job.shape[1], job.across_channels
    program, twiddles = job.program(nvrtc.fused(size, across, job.half)), _twiddles(device, size)
    # Halves are kept scaled by 1/size.
    factor = np.float32(job.factor * (size if job.half else 1))
    with _spectra(job, (launch.strips(size, across), size, 4)) as (spectra, mixed):
        args: tuple[Any, ...] = (*job.source, *job.route, *job.clean_target, twiddles, spectra)
        device.launch(program, "rows_forward", launch.rows(size, job.slots), args)
        args = (spectra, *job.route, twiddles, factor, mixed, *job.step_args)
        device.launch(program, "columns", launch.columns(size, job.n, across), args)
        args = (mixed, *job.route, *job.target(job.out), twiddles)
        device.launch(program, "rows_back", launch.rows(size, job.n), args)


@contextmanager
def _spectra(job: Job, shape: tuple[int, ...]) -> Iterator[tuple[Array, Array]]:
    """Room for the spectra of all slots and of all results: complex64, or the bits of two float16 a point."""
    kind = "uint32" if job.half else "complex64"

    def make() -> tuple[Array, Array]:
        empty = job.device.empty
        return empty((job.slots, *shape), kind), empty((job.n, *shape), kind)

    with work.borrowed((*job.key, shape, kind), make) as buffers:
        yield buffers


def _generic(job: Job) -> None:
    channels, height, width = job.shape
    with _around_cufft(job, "float32") as (planes, spectra, mixed, forward, back):
        _before(job, planes)
        forward(planes, spectra)
        _between(job, job.program(nvrtc.generic()), spectra, np.float32(job.factor), mixed)
        back(mixed, planes)
        shape, parts = launch.pixels(job.n, height * width)
        sizes = (np.int32(channels), np.int32(height * width), np.int32(parts))
        args = (planes, *job.route, *job.target(job.out), *sizes)
        job.device.launch(job.program(nvrtc.generic()), "after", shape, args)


def recombine_in_double(job: Job) -> None:
    """Fill `job.out` from two arrays of float64, computing in float64, around cuFFT."""
    with _around_cufft(job, "float64") as (planes, spectra, mixed, forward, back):
        first, second = job.inputs
        planes[: job.n], planes[job.n :] = first, second
        forward(planes, spectra)
        _between(job, nvrtc.generic("double"), spectra, np.float64(job.factor), mixed)
        back(mixed, job.out)


@contextmanager
def _around_cufft(job: Job, real: str) -> Iterator[tuple[Any, ...]]:
    """Planes, spectra of all slots, spectra of all results, and cuFFT's plans there and back."""
    channels, height, width = job.shape
    over_channels = job.across_channels and channels != 3
    dims = (channels, height, width) if over_channels else (height, width)
    batch = 1 if over_channels else channels
    half = (channels, height, width // 2 + 1)
    kind = "complex64" if real == "float32" else "complex128"

    def make() -> tuple[Any, ...]:
        device = job.device
        return (
            device.empty((job.slots, *job.shape), real),
            device.empty((job.slots, *half), kind),
            device.empty((job.n, *half), kind),
            device.plan(dims, job.slots * batch, real, forward=True),
            device.plan(dims, job.n * batch, real, forward=False),
        )

    with work.borrowed((*job.key, real), make) as room:
        yield room


def _before(job: Job, planes: Array) -> None:
    channels, height, width = job.shape
    images = job.slots if planes is not NULL else job.n
    shape, parts = launch.pixels(images, height * width)
    sizes = (np.int32(channels), np.int32(height * width), np.int32(parts))
    args = (*job.source, *job.route, *job.clean_target, *sizes, planes)
    job.device.launch(job.program(nvrtc.generic()), "before", shape, args)


def _between(job: Job, program: nvrtc.Program, spectra: Array, factor: np.floating, mixed: Array) -> None:
    channels, height, width = job.shape
    bins = height * (width // 2 + 1)
    shape, parts = launch.elements(job.n, bins)
    here = job.across_channels and channels == 3
    sizes = (np.int32(channels), np.int32(bins), np.int32(parts), np.int32(here))
    steps = () if job.step is None else (np.int32(height), np.int32(width), *job.step_args)
    job.device.launch(program, "between", shape, (spectra, *job.route, *sizes, factor, mixed, *steps))
