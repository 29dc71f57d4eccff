"""The operators on a CUDA device: CuPy arrays in and out, by our own kernels and, for sizes they lack, cuFFT.

Everything runs on CuPy's current stream of the current device and nothing waits for it. Work buffers and plans are
kept for each (device, stream, shape, dtype), a bounded number of them. Arguments are checked in `apr_dali.functional`;
draws that are on the device already are taken on trust, except that a partner out of range gives NaN.

Results lie in CuPy's memory pool, which gives memory out again in the order of one stream: a caller that uses a result
on another stream must keep it until that stream is done (torch's `record_stream` does not reach it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.draws import SingleDraws, rotation_tables
from apr_dali.kernels.cuda import launch, nvrtc, paths
from apr_dali.kernels.cuda.device import (
    CudaDevice,
    check,  # noqa: F401 - every backend has it
)
from apr_dali.kernels.protocol import PairTask

Array = Any


@dataclass(frozen=True)
class DeviceDraws:
    """`SingleDraws` on the device: the same fields as CuPy arrays; flags are uint8."""

    operation: Array
    parameters: Array
    mix: Array
    amplitude_of_second: Array

    def __len__(self) -> int:
        return len(self.mix)


def pair(task: PairTask) -> Array:
    """See `apr_dali.pair`; bfloat16, which CuPy lacks, comes as the int16 of its bits.

    The partners and the coin may be on the device; a partner there that is out of range gives NaN.
    """
    device = _device()
    given = device.contiguous(task.images, "uint8" if task.images.dtype == np.uint8 else "float32")
    half = task.intermediates == "float16"
    if half:
        paths.check_fused(task.planes)
    out = device.empty(task.out_shape, "int16" if task.dtype == "bfloat16" else task.dtype)
    if not len(given):
        return task.planes_of(out)
    job = paths.Job(
        device,
        len(given),
        task.planes,
        across_channels=task.axes == "chw" and task.planes[0] > 1,
        inputs=(given, None),
        in_affine=paths.affine(device, task.in_scale, task.in_bias),
        out=out,
        dtype=task.dtype,
        out_affine=paths.affine(device, task.out_scale, task.out_bias),
        partner=None if task.mix is False else _on_device(device, task.partner, "int32"),
        mix=_flag(device, task.mix),
        views=2 if task.with_clean else 1,
        clean=True,
        half=half,
        channels_last=task.memory_format == "channels_last",
    )
    if task.mix is False:
        paths.write_clean(job)
    else:
        paths.recombine(job)
    return task.planes_of(out)


def recombine(phase_of: Array, amplitude_of: Array, axes: str) -> Array:
    """See `apr_dali.recombine`; float32 and float64 are computed as such, float16 in float32."""
    device = _device()
    dtype = str(phase_of.dtype)
    real = "float64" if dtype == "float64" else "float32"
    first, second = (device.contiguous(images, real) for images in (phase_of, amplitude_of))
    n, channels, height, width = first.shape
    out = device.empty(first.shape, dtype)
    if n == 0:
        return out
    same = paths.affine(device, np.ones(channels), np.zeros(channels))
    job = paths.Job(
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
        paths.recombine_in_double(job)
    else:
        paths.recombine(job)
    return out


def single(images: Array, draws: SingleDraws | DeviceDraws, overflow: str, axes: str) -> Array:
    """See `apr_dali.single`; uint8 (N, H, W, 3)."""
    device = _device()
    given = device.contiguous(images, "uint8")
    out = device.empty(given.shape, "uint8")
    if not len(given):
        return out
    recombine_views(device, given, draws, out, overflow, across_channels=axes == "chw")
    return out


def recombine_views(
    device: CudaDevice,
    images: Array,
    draws: SingleDraws | DeviceDraws,
    out: Array,
    dtype: str,
    *,
    across_channels: bool = True,
    bias: float = 0.0,
    step: paths.Step | None = None,
) -> None:
    """Fill `out` with the views of images, uint8 (N, H, W, 3), recombined. bias: of real levels, before they become
    whole. step: in place of APR's exchange."""
    n, height, width, channels = images.shape
    chosen = draws if isinstance(draws, DeviceDraws) else DeviceDraws(*device.put(*numbers_of(draws)))
    key = (device.key, "second", images.shape)
    with paths.work.borrowed(key, lambda: device.empty(images.shape, "uint8")) as second:
        sizes = (np.int32(height), np.int32(width))
        args = (images, chosen.operation, chosen.parameters, chosen.mix, *sizes, out, second)
        device.launch(nvrtc.OPERATIONS, "operate", launch.operate(n, height * width), args)
        job = paths.Job(
            device,
            n,
            (channels, height, width),
            across_channels=across_channels,
            inputs=(out, second),
            in_affine=paths.affine(device, np.ones(channels), np.zeros(channels)),
            out=out,
            dtype=dtype,
            out_affine=paths.affine(device, np.ones(channels), np.full(channels, bias)),
            mix=chosen.mix,
            swap=chosen.amplitude_of_second,
            step=step,
        )
        paths.recombine(job)


def decode(uniform: Array, height: int, width: int) -> DeviceDraws:
    """`SingleDraws.from_uniform` of float32 (N, 8) on the device, bit for bit."""
    device = _device()
    n = len(uniform)
    rotations = paths.constant(device, ("rotations",), lambda: (np.stack(rotation_tables()),))[0]
    shapes = {"operation": (n, 2), "parameters": (n, 2, 6), "mix": (n,), "amplitude_of_second": (n,)}
    draws = DeviceDraws(
        **{name: device.empty(shape, "f8" if name == "parameters" else "u1") for name, shape in shapes.items()}
    )
    if n:
        sizes = (np.int32(n), np.int32(height), np.int32(width))
        args = (device.contiguous(uniform, "float32"), rotations, *sizes, *(getattr(draws, name) for name in shapes))
        device.launch(nvrtc.OPERATIONS, "decode", launch.decode(n), args)
    return draws


# ---- Arguments ----


def _device() -> CudaDevice:
    return CudaDevice()


def _on_device(device: CudaDevice, values: NDArray[Any] | Array, dtype: str) -> Array:
    return device.put((values, dtype))[0] if isinstance(values, np.ndarray) else device.contiguous(values, dtype)


def _flag(device: CudaDevice, mix: bool | Array) -> Array | None:
    """What the kernels read to know whether the batch is mixed; None where it is."""
    if isinstance(mix, (bool, np.bool_)):
        return None if mix else paths.constant(device, ("unmixed",), lambda: (np.zeros(1, np.uint8),))[0]
    return device.contiguous(mix.reshape(1), "uint8")


def numbers_of(draws: SingleDraws) -> tuple[tuple[NDArray[Any], str], ...]:
    """What `CudaDevice.put` takes of draws, for a `DeviceDraws`."""
    fields = draws.operation, draws.parameters, draws.mix, draws.amplitude_of_second
    return tuple(zip(fields, ("u1", "f8", "u1", "u1"), strict=True))
