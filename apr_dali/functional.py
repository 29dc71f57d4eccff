"""The public operators: pure functions of images and draws.

An operator takes NumPy arrays, torch tensors or CuPy arrays and returns its result as the same kind of array, on
the same device. ``backend="auto"`` takes the fastest backend that can run there; an explicit choice that cannot be
met raises with the reason. The operators have no gradient: a torch tensor that requires one is refused, unless
gradients are switched off, and so is one with a tangent of forward mode.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali.draws import SingleDraws, check_partner
from apr_dali.errors import InputError, check_choice
from apr_dali.kernels import arrays, dispatch
from apr_dali.kernels.arrays import dtype_name
from apr_dali.kernels.cuda.backend import DeviceDraws
from apr_dali.kernels.protocol import PairTask
from apr_dali.recipes import VIEWS
from apr_dali.runtime.deprecation import renamed
from apr_dali.spectral import AXES, OVERFLOWS

DTYPES = ("float32", "float16", "bfloat16")
MEMORY_FORMATS = ("contiguous", "channels_last")
INTERMEDIATES = ("float32", "float16")


def check_images(images: Any) -> None:
    """Raise TypeError or ValueError unless `images` is uint8 (N, H, W, C) or floating (N, C, H, W), of pixels."""
    arrays.device_of(images)  # raises for anything that is no array, or none that operators can read
    kind = dtype_name(images.dtype)
    if kind not in ("uint8", "float16", "bfloat16", "float32", "float64"):
        raise TypeError(f"images must be uint8 (N, H, W, C) or floating (N, C, H, W), got dtype {kind}")
    if images.ndim != 4:
        raise ValueError(f"images must have four dimensions, got the shape {tuple(images.shape)}")
    if 0 in images.shape[1:]:
        raise ValueError(f"images must not be empty, got the shape {tuple(images.shape)}")


def check_no_gradient(*values: Any) -> None:
    """Raise InputError for a tensor whose gradient, or tangent, the operators would silently leave out."""
    tensors = [value for value in values if hasattr(value, "requires_grad")]
    if not tensors:
        return
    import torch
    from torch.autograd import forward_ad

    for tensor in tensors:
        shape = tuple(tensor.shape)
        if tensor.requires_grad and torch.is_grad_enabled():
            raise InputError(
                f"APR's operators are not differentiable, and a tensor of the shape {shape} requires its gradient: "
                "give them tensor.detach(), or call them under torch.no_grad()"
            )
        if forward_ad.unpack_dual(tensor).tangent is not None:
            raise InputError(
                f"APR's operators are not differentiable, and a tensor of the shape {shape} has a tangent of forward "
                "mode: give them tensor.detach()"
            )


def recombine(
    phase_of: Any, amplitude_of: Any, *, axes: str = "chw", backend: str = "auto", threads: int | None = None
) -> Any:
    """iDFT(|F(amplitude_of)|·exp(i·∠F(phase_of))): the paper's Eq. 5 on a batch.

    Args:
        phase_of, amplitude_of: floating (N, C, H, W), one shape, dtype and device.
        axes: what is transformed together: "chw" as the published code does it, up to 4096 channels on the native
            backend; "hw" each channel by itself.
        backend: "auto" or one of BACKENDS.
        threads: of the native backend; None takes every processor that this process may run on.

    Returns:
        The shape and dtype of the input, not clipped. Where |F(phase_of)| is 0 the phase is 0. The native backend
        squares the bins: of float32 images they must lie within 1e-19 and 1e19, or be 0.
    """
    check_choice("axes", axes, AXES)
    for images in (phase_of, amplitude_of):
        check_images(images)
        if "float" not in dtype_name(images.dtype):
            raise TypeError(f"recombine takes floating images (N, C, H, W), got dtype {dtype_name(images.dtype)}")
    if tuple(phase_of.shape) != tuple(amplitude_of.shape) or phase_of.dtype != amplitude_of.dtype:
        raise ValueError(
            "phase_of and amplitude_of must have one shape and dtype, got "
            f"{tuple(phase_of.shape)} {phase_of.dtype} and {tuple(amplitude_of.shape)} {amplitude_of.dtype}"
        )
    check_no_gradient(phase_of, amplitude_of)
    chosen = dispatch.choose(backend, arrays.device_of(phase_of), threads)
    with arrays.on_the_stream_of(phase_of, chosen):
        first, second = (arrays.as_input(images, chosen) for images in (phase_of, amplitude_of))
        result = dispatch.load(chosen, threads).recombine(first, second, axes)
        return arrays.as_output(result, phase_of, dtype_name(phase_of.dtype))


def _clean_for(views: str) -> bool:
    check_choice("views", views, VIEWS)
    return views == "both"


@renamed("views", "with_clean", _clean_for)
def pair(
    images: Any,
    partner: Any,
    mix: Any = True,
    *,
    in_scale: ArrayLike = 1.0,
    in_bias: ArrayLike = 0.0,
    out_scale: ArrayLike = 1.0,
    out_bias: ArrayLike = 0.0,
    dtype: str = "float32",
    axes: str = "chw",
    with_clean: bool = False,
    backend: str = "auto",
    threads: int | None = None,
    intermediates: str = "float32",
    memory_format: str = "contiguous",
    bits: bool = False,
) -> Any:
    """APR-P of a batch: each image keeps its phase and takes its partner's amplitude.

    x = images·in_scale + in_bias; if `mix`, x = recombine(x, x[partner]); the result is x·out_scale + out_bias.
    With in_scale = 1/(255·std), in_bias = -mean/std this is the published order on ImageNet (normalize, then mix);
    with in_scale = 1/255, out_scale = 1/std, out_bias = -mean/std the one on CIFAR (mix, then normalize).

    Args:
        images: uint8 (N, H, W, C), 0..255, or floating (N, C, H, W).
        partner: integers (N,), each in 0..N-1; see `PairDraws`. On a CUDA device it is taken on trust: to look at it
            would synchronize.
        mix: False leaves the images as they are but for scale and bias. May be an array of one bool on the images'
            device; the cupy backend then decides there.
        in_scale, in_bias, out_scale, out_bias: a number or one per channel.
        dtype: of the result: float32, float16, or bfloat16 (torch tensors only, but for `bits`). Computed in float32.
        axes: "chw" or "hw", see `recombine`.
        with_clean: also give x without the mixing, as training with both views takes it.
        backend: "auto" or one of BACKENDS.
        threads: of the native backend; None takes every processor that this process may run on.
        intermediates: "float16" halves what the cupy backend's fused kernels (squares of 64 to 256, 3 channels) move
            between them, for an error of about 0.1 gray levels on natural images; values beyond 65504 overflow.
            Refused elsewhere.
        memory_format: how the result lies in memory: "contiguous", plane after plane, or "channels_last", the channels
            of a pixel side by side. The operator writes it that way itself; the shape is the same.
        bits: bfloat16 of NumPy and CuPy arrays, which have no such type, as int16, its bits.

    Returns:
        The images (N, C, H, W) in `dtype`, not clipped; (N, 2, C, H, W), the clean one of each first, `with_clean`.
    """
    check_images(images)
    check_pair_options(dtype=dtype, axes=axes, intermediates=intermediates, memory_format=memory_format)
    check_choice("with_clean", with_clean, (True, False))
    _check_bits(bits, dtype, arrays.library_of(images))
    check_no_gradient(images, in_scale, in_bias, out_scale, out_bias)
    channels = images.shape[-1] if dtype_name(images.dtype) == "uint8" else images.shape[1]
    chosen = dispatch.choose(backend, arrays.device_of(images), threads)
    if intermediates != "float32" and chosen != "cupy":
        raise ValueError(f"intermediates {intermediates} are for the cupy backend, got the {chosen} backend")
    partner = _checked_partner(partner, len(images))
    _check_coin(mix)
    if chosen != "cupy" or not arrays.on_device(mix):
        mix = bool(mix)  # synchronizes where it is on a device
    with arrays.on_the_stream_of(images, chosen):
        task = PairTask(
            images=arrays.as_input(images, chosen),
            partner=arrays.as_input(partner, chosen) if arrays.on_device(partner) else partner,
            mix=arrays.as_input(mix, chosen) if arrays.on_device(mix) else mix,
            in_scale=_per_channel(in_scale, channels),
            in_bias=_per_channel(in_bias, channels),
            out_scale=_per_channel(out_scale, channels),
            out_bias=_per_channel(out_bias, channels),
            dtype=dtype,
            axes=axes,
            with_clean=with_clean,
            intermediates=intermediates,
            memory_format=memory_format,
        )
        return arrays.as_output(dispatch.load(chosen, threads).pair(task), images, dtype)


def check_pair_options(*, dtype: str, axes: str, intermediates: str, memory_format: str) -> None:
    """Raise InputError for options of `pair` that are none, whatever the images."""
    check_choice("dtype", dtype, DTYPES)
    check_choice("axes", axes, AXES)
    check_choice("intermediates", intermediates, INTERMEDIATES)
    check_choice("memory_format", memory_format, MEMORY_FORMATS)


def _check_bits(bits: bool, dtype: str, library: str) -> None:
    check_choice("bits", bits, (True, False))
    if bits and (dtype != "bfloat16" or library == "torch"):
        raise InputError(f"bits has no effect with {dtype} of {library}: it is for bfloat16 of NumPy and CuPy arrays")
    if dtype == "bfloat16" and library != "torch" and not bits:
        raise ValueError("dtype bfloat16 needs torch tensors: NumPy and CuPy have no such type, but with bits=True")


def _check_coin(mix: Any) -> None:
    shape = tuple(getattr(mix, "shape", () if isinstance(mix, int) else (0,)))
    if math.prod(shape) != 1:
        raise InputError(f"mix is one coin for the whole batch: a bool or an array of one, got {mix!r}")


def _checked_partner(partner: Any, batch: int) -> Any:
    if not arrays.on_device(partner):
        partner = np.ascontiguousarray(partner)  # torch takes no negative strides
        if partner.shape == (0,):
            partner = partner.astype(np.int64)  # an empty list has no kind of its own
        check_partner(partner, batch)
    elif tuple(partner.shape) != (batch,) or "int" not in dtype_name(partner.dtype):
        raise ValueError(
            f"partner must hold {batch} integers, got {dtype_name(partner.dtype)} of the shape {tuple(partner.shape)}"
        )
    return partner


def single(
    images: Any,
    draws: SingleDraws | DeviceDraws,
    *,
    overflow: str = "wrap",
    axes: str = "chw",
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """APR-S of a batch: each image is recombined with an augmented view of itself.

    Args:
        images: uint8 (N, H, W, 3), 0..255.
        draws: `SingleDraws` for N images of this height and width; for the cupy backend also its `DeviceDraws`.
        overflow: "wrap" as published (truncate, then modulo 256) or "clamp" (round and clip).
        axes: "chw" or "hw", see `recombine`.
        backend: "auto" or one of BACKENDS.
        threads: of the native backend; None takes every processor that this process may run on.

    Returns:
        uint8, the shape of the input. The nine operations are Pillow's, bit for bit.
    """
    check_choice("axes", axes, AXES)
    check_choice("overflow", overflow, OVERFLOWS)
    check_images(images)
    if dtype_name(images.dtype) != "uint8" or images.shape[-1] != 3:
        raise TypeError(
            f"single takes uint8 images (N, H, W, 3), got {dtype_name(images.dtype)} with the shape "
            f"{tuple(images.shape)}"
        )
    if not hasattr(draws, "__len__"):
        raise TypeError(f"draws must be SingleDraws for {len(images)} images, got {type(draws).__name__}")
    if len(draws) != len(images):
        raise ValueError(f"draws must be for {len(images)} images, got draws for {len(draws)}")
    chosen = dispatch.choose(backend, arrays.device_of(images), threads)
    if chosen != "cupy" and not isinstance(draws, SingleDraws):
        raise TypeError(f"the {chosen} backend takes SingleDraws, got {type(draws).__name__}")
    with arrays.on_the_stream_of(images, chosen):
        result = dispatch.load(chosen, threads).single(arrays.as_input(images, chosen), draws, overflow, axes)
        return arrays.as_output(result, images, "uint8")


def _per_channel(value: ArrayLike, channels: int) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (1,), (channels,)):
        raise ValueError(f"scale and bias must be one number or {channels} numbers, got the shape {array.shape}")
    return np.full(channels, array)
