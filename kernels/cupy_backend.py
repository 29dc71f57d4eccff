"""The operators on a CUDA device: CuPy arrays in and out, by our own kernels and, for sizes they lack, cuFFT.

Everything runs on CuPy's current stream of the current device and nothing waits for it. Work buffers and plans are
kept for each (device, stream, shape, dtype), a bounded number of them. Arguments are checked in `apr_dali.backend`;
draws that are on the device already are taken on trust, except that a partner out of range gives NaN.

Results lie in CuPy's memory pool, which gives memory out again in the order of one stream: whoever uses a result on
another stream must keep it until that stream is done (torch's `record_stream` does not reach it).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.draws import SingleDraws, rotation_tables
from apr_dali.kernels import geometry, nvrtc
from apr_dali.kernels.cuda_check import check  # noqa: F401 - every backend has it
from apr_dali.kernels.cuda_device import NULL, CudaDevice, Kept

Array = Any

_LEVELS_IN, _FLOATS_IN = 0, 1
_OUT_KINDS = {"float32": 0, "float16": 1, "bfloat16": 2, "wrap": 3, "clamp": 4}
_work = Kept(limit=8)
_constants = Kept(limit=256)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceDraws:
    """`SingleDraws` on the device: the same fields as CuPy arrays; flags are uint8."""

    operation: Array
    parameters: Array
    mix: Array
    amplitude_of_second: Array

    def __len__(self) -> int:
        return len(self.mix)


@dataclass
class _Job:
    """A recombination of `n` results, with the arguments that the kernels of every path have in common.

    shape: (C, H, W). inputs: one array, where `partner` gives the amplitudes, or two. mix: one flag or one a result;
    None for all. swap: see route.cuh. dtype: of the result, or how levels overflow. clean: whether the unmixed view
    is written too. half: whether spectra are kept as float16 between the fused kernels.
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
        return (data, np.int32(_OUT_KINDS[self.dtype]), np.int32(self.views), *self.out_affine)

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


def pair(
    images: Array,
    partner: NDArray[np.integer] | Array,
    mix: bool | Array,
    in_scale: NDArray[np.float64],
    in_bias: NDArray[np.float64],
    out_scale: NDArray[np.float64],
    out_bias: NDArray[np.float64],
    dtype: str,
    axes: str,
    views: str,
    intermediates: str = "float32",
) -> Array:
    """See `apr_dali.pair`; bfloat16, which CuPy lacks, comes as the int16 of its bits.

    partner and mix (one flag) may be on the device; a partner there that is out of range gives NaN.
    """
    device = _device()
    given = device.contiguous(images, "uint8" if images.dtype == np.uint8 else "float32")
    n, *shape = given.shape
    if given.dtype == np.uint8:
        shape = [shape[2], shape[0], shape[1]]
    half = intermediates == "float16"
    if half:
        _check_fused((shape[0], shape[1], shape[2]))
    both = views == "both"
    out = device.empty((n, 2, *shape) if both else (n, *shape), "int16" if dtype == "bfloat16" else dtype)
    if n == 0:
        return out
    job = _Job(
        device,
        n,
        (shape[0], shape[1], shape[2]),
        across_channels=axes == "chw" and shape[0] > 1,
        inputs=(given, None),
        in_affine=_affine(device, in_scale, in_bias),
        out=out,
        dtype=dtype,
        out_affine=_affine(device, out_scale, out_bias),
        partner=_on_device(device, partner, "int32"),
        mix=_flag(device, mix),
        views=2 if both else 1,
        clean=True,
        half=half,
    )
    if mix is False:
        _before(job, NULL)
    else:
        _recombine(job)
    return out


def recombine(phase_of: Array, amplitude_of: Array, axes: str = "chw") -> Array:
    """See `apr_dali.recombine`; float32 and float64 are computed as such, float16 in float32."""
    device = _device()
    dtype = str(phase_of.dtype)
    real = "float64" if dtype == "float64" else "float32"
    first, second = (device.contiguous(images, real) for images in (phase_of, amplitude_of))
    n, channels, height, width = first.shape
    out = device.empty(first.shape, dtype)
    if n == 0:
        return out
    same = _affine(device, np.ones(channels), np.zeros(channels))
    job = _Job(
        device,
        n,
        (channels, height, width),
        across_channels=axes == "chw" and channels > 1,
        inputs=(first, second),
        in_affine=same,
        out=out,
        dtype=dtype,
        out_affine=same,
    )
    if real == "float64":
        _double(job)
    else:
        _recombine(job)
    return out


def single(images: Array, draws: SingleDraws | DeviceDraws, overflow: str = "wrap", axes: str = "chw") -> Array:
    """See `apr_dali.single`; uint8 (N, H, W, 3)."""
    device = _device()
    given = device.contiguous(images, "uint8")
    n, height, width, channels = given.shape
    out = device.empty(given.shape, "uint8")
    if n == 0:
        return out
    same = _affine(device, np.ones(channels), np.zeros(channels))
    chosen = draws if isinstance(draws, DeviceDraws) else _upload(device, draws)
    key = (device.key, "second", given.shape)
    with _work.borrowed(key, lambda: device.empty(given.shape, "uint8")) as second:
        sizes = (np.int32(height), np.int32(width))
        args = (given, chosen.operation, chosen.parameters, chosen.mix, *sizes, out, second)
        device.launch(nvrtc.OPERATIONS, "operate", geometry.operate(n, height * width), args)
        job = _Job(
            device,
            n,
            (channels, height, width),
            across_channels=axes == "chw",
            inputs=(out, second),
            in_affine=same,
            out=out,
            dtype=overflow,
            out_affine=same,
            mix=chosen.mix,
            swap=chosen.amplitude_of_second,
        )
        _recombine(job)
    return out


def decode(uniform: Array, height: int, width: int) -> DeviceDraws:
    """`SingleDraws.from_uniform` of float32 (N, 8) on the device, bit for bit."""
    device = _device()
    n = len(uniform)
    turns = _constant(device, ("rotations",), lambda: (np.stack(rotation_tables()),))[0]
    shapes = {"operation": (n, 2), "parameters": (n, 2, 6), "mix": (n,), "amplitude_of_second": (n,)}
    draws = DeviceDraws(
        **{name: device.empty(shape, "f8" if name == "parameters" else "u1") for name, shape in shapes.items()}
    )
    if n:
        sizes = (np.int32(n), np.int32(height), np.int32(width))
        args = (device.contiguous(uniform, "float32"), turns, *sizes, *(getattr(draws, name) for name in shapes))
        device.launch(nvrtc.OPERATIONS, "decode", geometry.decode(n), args)
    return draws


# ---- Arguments ----


def _device() -> CudaDevice:
    return CudaDevice()


def _constant(
    device: CudaDevice, what: tuple[Hashable, ...], make: Callable[[], tuple[NDArray[Any], ...]]
) -> tuple[Array, ...]:
    """Small tables on the device, made and copied there once for a stream."""
    return _constants.shared((device.key, *what), lambda: tuple(map(device.put, make())))


def _affine(device: CudaDevice, scale: NDArray[np.float64], bias: NDArray[np.float64]) -> tuple[Array, ...]:
    what = ("affine", scale.tobytes(), bias.tobytes())
    return _constant(device, what, lambda: (scale.astype(np.float32), bias.astype(np.float32)))


def _turns(device: CudaDevice, size: int) -> Array:
    """What a transform of `size` points multiplies with between its two steps, complex64 (second, first)."""

    def make() -> tuple[NDArray[np.complex64]]:
        first, second = geometry.factors(size)
        turns = np.outer(np.arange(second), np.arange(first)) / size
        return (np.exp(-2j * np.pi * turns).astype(np.complex64),)

    return _constant(device, ("turns", size), make)[0]


def _on_device(device: CudaDevice, values: NDArray[Any] | Array, dtype: str) -> Array:
    return device.put(values.astype(dtype)) if isinstance(values, np.ndarray) else device.contiguous(values, dtype)


def _flag(device: CudaDevice, mix: bool | Array) -> Array | None:
    """What the kernels read to know whether the batch is mixed; None where it is."""
    if isinstance(mix, (bool, np.bool_)):
        return None if mix else _constant(device, ("unmixed",), lambda: (np.zeros(1, np.uint8),))[0]
    return device.contiguous(mix.reshape(1), "uint8")


def _upload(device: CudaDevice, draws: SingleDraws) -> DeviceDraws:
    flags = (device.put(values.astype(np.uint8)) for values in (draws.mix, draws.amplitude_of_second))
    return DeviceDraws(device.put(draws.operation), device.put(draws.parameters), *flags)


# ---- The three paths ----


def _recombine(job: _Job) -> None:
    channels, height, width = job.shape
    path = geometry.path(height, width, channels)
    if path == "whole":
        _whole(job)
    elif path == "fused":
        _fused(job)
    else:
        _say_once(height, width, channels)
        _generic(job)


@cache
def _say_once(height: int, width: int, channels: int) -> None:
    sizes = ", ".join(map(str, (*geometry.WHOLE_SIZES, *geometry.FUSED_SIZES)))
    _log.warning(
        "images of %d × %d × %d are recombined with cuFFT: the fused kernels are for squares of %s with 3 channels",
        *(height, width, channels, sizes),
    )


def _whole(job: _Job) -> None:
    size, across = job.shape[1], job.across_channels
    tail = (_turns(job.device, size), np.float32(job.factor), np.int32(job.clean))
    args = (*job.source, *job.route, *job.target(job.out), *tail)
    job.device.launch(nvrtc.whole(size, across), "whole_images", geometry.whole(size, job.n, across), args)


def _check_fused(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    if geometry.path(height, width, channels) != "fused":
        sizes = ", ".join(map(str, geometry.FUSED_SIZES))
        raise ValueError(
            f"intermediates float16 are for squares of {sizes} with 3 channels, got {height} × {width} × {channels}"
        )


def _fused(job: _Job) -> None:
    device, size, across = job.device, job.shape[1], job.across_channels
    program, turns = nvrtc.fused(size, across, job.half), _turns(device, size)
    # Halves are kept scaled by 1/size.
    factor = np.float32(job.factor * (size if job.half else 1))
    with _spectra(job, (geometry.strips(size, across), size, 4)) as (spectra, mixed):
        args: tuple[Any, ...] = (*job.source, *job.route, *job.clean_target, turns, spectra)
        device.launch(program, "rows_forward", geometry.rows(size, job.slots), args)
        args = (spectra, *job.route, turns, factor, mixed)
        device.launch(program, "columns", geometry.columns(size, job.n, across), args)
        args = (mixed, *job.route, *job.target(job.out), turns)
        device.launch(program, "rows_back", geometry.rows(size, job.n), args)


@contextmanager
def _spectra(job: _Job, shape: tuple[int, ...]) -> Iterator[tuple[Array, Array]]:
    """Room for the spectra of all slots and of all results: complex64, or the bits of two float16 a point."""
    kind = "uint32" if job.half else "complex64"

    def make() -> tuple[Array, Array]:
        empty = job.device.empty
        return empty((job.slots, *shape), kind), empty((job.n, *shape), kind)

    with _work.borrowed((*job.key, shape, kind), make) as buffers:
        yield buffers


def _generic(job: _Job) -> None:
    channels, height, width = job.shape
    with _around_cufft(job, "float32") as (planes, spectra, mixed, forward, back):
        _before(job, planes)
        forward(planes, spectra)
        _between(job, nvrtc.generic("float"), spectra, np.float32(job.factor), mixed)
        back(mixed, planes)
        shape, parts = geometry.elements(job.n * channels, height * width)
        sizes = (np.int32(channels), np.int32(height * width), np.int32(parts))
        args = (planes, *job.route, *job.target(job.out), *sizes)
        job.device.launch(nvrtc.generic(), "after", shape, args)


def _double(job: _Job) -> None:
    with _around_cufft(job, "float64") as (planes, spectra, mixed, forward, back):
        first, second = job.inputs
        planes[: job.n], planes[job.n :] = first, second
        forward(planes, spectra)
        _between(job, nvrtc.generic("double"), spectra, np.float64(job.factor), mixed)
        back(mixed, job.out)


@contextmanager
def _around_cufft(job: _Job, real: str) -> Iterator[tuple[Any, ...]]:
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

    with _work.borrowed((*job.key, real), make) as work:
        yield work


def _before(job: _Job, planes: Array) -> None:
    channels, height, width = job.shape
    images = job.slots if planes is not NULL else job.n
    shape, parts = geometry.elements(images * channels, height * width)
    sizes = (np.int32(channels), np.int32(height * width), np.int32(parts))
    args = (*job.source, *job.route, *job.clean_target, *sizes, planes)
    job.device.launch(nvrtc.generic(), "before", shape, args)


def _between(job: _Job, program: nvrtc.Program, spectra: Array, factor: np.floating, mixed: Array) -> None:
    channels, height, width = job.shape
    bins = height * (width // 2 + 1)
    shape, parts = geometry.elements(job.n, bins)
    here = job.across_channels and channels == 3
    sizes = (np.int32(channels), np.int32(bins), np.int32(parts), np.int32(here))
    job.device.launch(program, "between", shape, (spectra, *job.route, *sizes, factor, mixed))
