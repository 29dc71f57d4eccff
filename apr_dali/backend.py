"""The public operators and the choice of the code that runs them.

An operator takes NumPy arrays, torch tensors or CuPy arrays and returns its result as the same kind of array, on
the same device. ``backend="auto"`` takes the fastest backend that can run there; an explicit choice that cannot be
met raises with the reason. The operators have no gradient: a torch tensor that requires one is refused, unless
gradients are switched off.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali import pillow_ops, spectral
from apr_dali.config import check_whole
from apr_dali.draws import SingleDraws, check_partner
from apr_dali.errors import InputError
from apr_dali.kernels.cupy_backend import DeviceDraws

Scales = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
DTYPES = ("float32", "float16", "bfloat16")
VIEWS = ("mixed", "both")
INTERMEDIATES = ("float32", "float16")

# Fastest first. `reference` is left out of auto: float64 for tests, far too slow to be taken unasked.
_BY_DEVICE = {"cpu": ("native", "torch"), "cuda": ("cupy", "torch")}
BACKENDS = ("reference", "native", "torch", "cupy")


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here; `reason` says why not, or which version it is."""

    available: bool
    reason: str


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"apr_dali.kernels.{name}_backend")


@cache
def availability(name: str) -> Availability:
    """Whether backend `name`, one of BACKENDS, can run in this environment."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be auto or one of {', '.join(BACKENDS)}, got {name!r}")
    if name == "reference":
        return Availability(True, f"NumPy {np.__version__}, float64, for tests")
    try:
        return Availability(*_module(name).check())
    except ImportError as error:
        return Availability(False, f"{error}")


def choose(name: str, device: str) -> str:
    """The backend to run on `device` ("cpu" or "cuda") for the choice `name`."""
    if name != "auto":
        found = availability(name)
        if not found.available:
            raise RuntimeError(f"backend {name!r} cannot run here: {found.reason}")
        if name not in (*_BY_DEVICE[device], "reference"):
            raise ValueError(f"backend {name!r} does not work on {device} arrays")
        return name
    for candidate in _BY_DEVICE[device]:
        if availability(candidate).available:
            return candidate
    reasons = "; ".join(f"{c}: {availability(c).reason}" for c in _BY_DEVICE[device])
    raise RuntimeError(f"no backend can run on {device}: {reasons}. See `apr-dali doctor`")


def _library(array: Any) -> str:
    root = type(array).__module__.partition(".")[0]
    if root not in ("numpy", "torch", "cupy"):
        raise TypeError(f"images must be a NumPy array, a torch tensor or a CuPy array, got {type(array).__name__}")
    return root


def _device(array: Any) -> str:
    library = _library(array)
    if library == "torch":
        if array.device.type not in ("cpu", "cuda"):
            raise ValueError(f"images must be on the CPU or a CUDA device, got {array.device}")
        if str(array.layout) != "torch.strided":
            raise InputError(f"images must be dense, got {array.layout}: give them tensor.to_dense()")
        return str(array.device.type)
    return "cuda" if library == "cupy" else "cpu"


def _on_device(array: Any) -> bool:
    return type(array).__module__.startswith(("torch", "cupy")) and _device(array) == "cuda"


def _as_input(array: Any, backend: str) -> Any:
    """`array` as the kind that `backend` works on, without a copy."""
    library = _library(array)
    if backend == "torch" and library != "torch":
        import torch

        return torch.from_dlpack(array) if library == "cupy" else torch.from_numpy(_writeable(array))
    if backend in ("reference", "native") and library != "numpy":
        return array.get() if library == "cupy" else _host_view(array)
    if backend == "cupy" and library == "torch":
        import cupy

        # CuPy has no bfloat16, and bool does not pass DLPack in every version.
        passing = {"bfloat16": "float32", "bool": "uint8"}.get(_name(array.dtype))
        return cupy.from_dlpack(array.detach() if passing is None else array.detach().to(_torch_dtype(passing)))
    return array


def _torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)


def _host_view(tensor: Any) -> NDArray[Any]:
    host = tensor.detach().cpu()
    # NumPy has no bfloat16, and float32 holds every value of it.
    return (host.float() if _name(host.dtype) == "bfloat16" else host).numpy()


def _writeable(array: NDArray[Any]) -> NDArray[Any]:
    # torch warns about read-only arrays, which DALI's and Pillow's views are; negative strides it cannot take.
    return array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy()


def _as_output(result: Any, like: Any, dtype: str) -> Any:
    """`result` as the library and on the device of `like`, in `dtype`."""
    library = _library(like)
    if _library(result) == "torch" and library == "torch":
        return result
    if library == "torch":
        import torch

        tensor = torch.from_numpy(result) if _library(result) == "numpy" else torch.from_dlpack(result)
        if dtype == "bfloat16" and _name(result.dtype) in ("uint16", "int16"):
            return tensor.view(torch.bfloat16)  # the native and the cupy backend write its bits
        return tensor.to(like.device, _torch_dtype(dtype))
    if library == "numpy":
        return (result.numpy() if _library(result) == "torch" else result).astype(dtype, copy=False)
    import cupy

    return cupy.asarray(result).astype(dtype, copy=False)


def _on_the_stream_of(images: Any, chosen: str) -> AbstractContextManager[Any]:
    """Lets backend `chosen` work on the device and the stream that are current for the library of `images`."""
    library = _library(images)
    if not _on_device(images) or chosen not in ("cupy", "torch") or (library, chosen) == ("torch", "torch"):
        return nullcontext()
    import cupy

    if chosen == "cupy":
        contexts = ExitStack()
        if library == "cupy":
            contexts.enter_context(images.device)
            return contexts
        import torch

        device = images.device.index
        contexts.enter_context(cupy.cuda.Device(device))
        contexts.enter_context(cupy.cuda.Stream.from_external(torch.cuda.current_stream(device)))
        return contexts
    import torch

    pointer, device = cupy.cuda.get_current_stream().ptr, images.device.id
    # torch takes 0, the default stream, for a wish to have a new one.
    stream = torch.cuda.ExternalStream(pointer, device) if pointer else torch.cuda.default_stream(device)
    return torch.cuda.stream(stream)


def _operator(name: str, chosen: str, backend: str, threads: int | None) -> Callable[..., Any]:
    """Function `name` of the backend that was chosen, with the number of threads if that is its to say."""
    if chosen == "reference":
        functions: dict[str, Callable[..., Any]] = {"recombine": spectral.recombine, "single": pillow_ops.single}
        return functions[name]
    run = getattr(_module(chosen), name)
    if chosen == "native":
        if threads is not None:
            check_whole("threads", threads, 1)
        return partial(run, threads=threads)
    if threads is not None and backend != "auto":
        raise ValueError(f"threads is for the native backend, got backend={backend!r}; see torch.set_num_threads")
    return run


@cache
def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _check_images(images: Any) -> None:
    _library(images)  # raises for anything that is no array
    kind = _name(images.dtype)
    if kind not in ("uint8", "float16", "bfloat16", "float32", "float64"):
        raise TypeError(f"images must be uint8 (N, H, W, C) or floating (N, C, H, W), got dtype {kind}")
    if images.ndim != 4:
        raise ValueError(f"images must have four dimensions, got the shape {tuple(images.shape)}")
    if 0 in images.shape[1:]:
        raise ValueError(f"images must not be empty, got the shape {tuple(images.shape)}")


def _check_no_gradient(*arrays: Any) -> None:
    """Raise InputError for a tensor that wants the gradient which the operators would silently leave out."""
    wanting = [array for array in arrays if getattr(array, "requires_grad", False)]
    if not wanting:
        return
    import torch

    if torch.is_grad_enabled():
        shape = tuple(wanting[0].shape)
        raise InputError(
            f"APR's operators are not differentiable, and a tensor of the shape {shape} requires its gradient: "
            "give them tensor.detach(), or call them under torch.no_grad()"
        )


def recombine(
    phase_of: Any, amplitude_of: Any, axes: str = "chw", backend: str = "auto", threads: int | None = None
) -> Any:
    """iDFT(|F(amplitude_of)|·exp(i·∠F(phase_of))): the paper's Eq. 5 on a batch.

    Args:
        phase_of, amplitude_of: floating (N, C, H, W), one shape, dtype and device.
        axes: what is transformed together: "chw" as the published code does it, "hw" each channel by itself.
        backend: "auto" or one of BACKENDS.
        threads: of the native backend; None takes every processor that this process may run on.

    Returns:
        The shape and dtype of the input, not clipped. Where |F(phase_of)| is 0 the phase is 0.
    """
    spectral.check_axes(axes)
    for images in (phase_of, amplitude_of):
        _check_images(images)
        if "float" not in _name(images.dtype):
            raise TypeError(f"recombine takes floating images (N, C, H, W), got dtype {_name(images.dtype)}")
    if tuple(phase_of.shape) != tuple(amplitude_of.shape) or phase_of.dtype != amplitude_of.dtype:
        raise ValueError(
            "phase_of and amplitude_of must have one shape and dtype, got "
            f"{tuple(phase_of.shape)} {phase_of.dtype} and {tuple(amplitude_of.shape)} {amplitude_of.dtype}"
        )
    _check_no_gradient(phase_of, amplitude_of)
    chosen = choose(backend, _device(phase_of))
    run: Callable[..., Any] = (
        spectral.recombine if chosen == "reference" else _operator("recombine", chosen, backend, threads)
    )
    with _on_the_stream_of(phase_of, chosen):
        first, second = (_as_input(images, chosen) for images in (phase_of, amplitude_of))
        return _as_output(run(first, second, axes), phase_of, _name(phase_of.dtype))


def pair(
    images: Any,
    partner: Any,
    mix: Any = True,
    in_scale: ArrayLike = 1.0,
    in_bias: ArrayLike = 0.0,
    out_scale: ArrayLike = 1.0,
    out_bias: ArrayLike = 0.0,
    dtype: str = "float32",
    axes: str = "chw",
    views: str = "mixed",
    backend: str = "auto",
    threads: int | None = None,
    intermediates: str = "float32",
) -> Any:
    """APR-P of a batch: each image keeps its phase and takes its partner's amplitude.

    x = images·in_scale + in_bias; if `mix`, x = recombine(x, x[partner]); the result is x·out_scale + out_bias.
    With in_scale = 1/(255·std), in_bias = -mean/std this is the published order on ImageNet (normalise, then mix);
    with in_scale = 1/255, out_scale = 1/std, out_bias = -mean/std the one on CIFAR (mix, then normalise).

    Args:
        images: uint8 (N, H, W, C), 0..255, or floating (N, C, H, W).
        partner: integers (N,), each in 0..N-1; see `PairDraws`. On a CUDA device it is taken on trust: to look at it
            would synchronise.
        mix: False leaves the images as they are but for scale and bias. May be an array of one bool on the images'
            device; the cupy backend then decides there.
        in_scale, in_bias, out_scale, out_bias: a number or one a channel.
        dtype: of the result: float32, float16, or bfloat16 (torch tensors only). Computed in float32.
        axes: "chw" or "hw", see `recombine`.
        views: "mixed" gives (N, C, H, W); "both" gives (N, 2, C, H, W), the clean view before the mixed one.
        backend: "auto" or one of BACKENDS.
        threads: of the native backend; None takes every processor that this process may run on.
        intermediates: "float16" halves what the cupy backend's fused kernels (squares of 64 to 256, 3 channels) move
            between them, for an error of about 0.1 grey levels on natural images; values beyond 65504 overflow.
            Refused elsewhere.

    Returns:
        The images in `dtype`, channels first, not clipped.
    """
    spectral.check_axes(axes)
    _check_images(images)
    _check_choice("dtype", dtype, DTYPES)
    _check_choice("views", views, VIEWS)
    _check_choice("intermediates", intermediates, INTERMEDIATES)
    if dtype == "bfloat16" and _library(images) != "torch":
        raise ValueError("dtype bfloat16 needs torch tensors: NumPy and CuPy have no such type")
    _check_no_gradient(images, in_scale, in_bias, out_scale, out_bias)
    channels = images.shape[-1] if _name(images.dtype) == "uint8" else images.shape[1]
    scales = (
        _per_channel(in_scale, channels),
        _per_channel(in_bias, channels),
        _per_channel(out_scale, channels),
        _per_channel(out_bias, channels),
    )
    chosen = choose(backend, _device(images))
    if intermediates != "float32" and chosen != "cupy":
        raise ValueError(f"intermediates {intermediates} are for the cupy backend, got the {chosen} backend")
    partner = _checked_partner(partner, len(images))
    if chosen != "cupy" or not _on_device(mix):
        mix = _coin(mix)
    with _on_the_stream_of(images, chosen):
        given = _as_input(images, chosen)
        if chosen == "reference":
            return _as_output(_reference_pair(given, partner, mix, scales, axes, views), images, dtype)
        if _on_device(partner):
            partner = _as_input(partner, chosen)
        if _on_device(mix):
            mix = _as_input(mix, chosen)
        run = _operator("pair", chosen, backend, threads)
        if chosen == "cupy":
            run = partial(run, intermediates=intermediates)
        return _as_output(run(given, partner, mix, *scales, dtype, axes, views), images, dtype)


def _coin(mix: Any) -> bool:
    """A bool, or an array of one bool, as a bool. Synchronises where it is on a device."""
    shape = tuple(getattr(mix, "shape", () if isinstance(mix, int) else (0,)))
    if math.prod(shape) != 1:
        raise InputError(f"mix is one coin for the whole batch: a bool or an array of one, got {mix!r}")
    return bool(mix)


def _checked_partner(partner: Any, batch: int) -> Any:
    if not _on_device(partner):
        partner = np.ascontiguousarray(partner)  # torch takes no negative strides
        if partner.shape == (0,):
            partner = partner.astype(np.int64)  # an empty list has no kind of its own
        check_partner(partner, batch)
    elif tuple(partner.shape) != (batch,) or "int" not in _name(partner.dtype):
        raise ValueError(
            f"partner must hold {batch} integers, got {_name(partner.dtype)} of the shape {tuple(partner.shape)}"
        )
    return partner


def _reference_pair(
    images: NDArray[Any], partner: Any, mix: bool, scales: Scales, axes: str, views: str
) -> NDArray[np.float64]:
    places = _as_input(partner, "reference") if _on_device(partner) else partner
    mixed = spectral.pair(images, places, mix, *scales, axes)
    if views == "mixed":
        return mixed
    return np.stack([spectral.pair(images, places, False, *scales, axes), mixed], axis=1)


def single(
    images: Any,
    draws: SingleDraws | DeviceDraws,
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
    spectral.check_axes(axes)
    spectral.check_overflow(overflow)
    _check_images(images)
    if _name(images.dtype) != "uint8" or images.shape[-1] != 3:
        raise TypeError(
            f"single takes uint8 images (N, H, W, 3), got {_name(images.dtype)} with the shape {tuple(images.shape)}"
        )
    if len(draws) != len(images):
        raise ValueError(f"draws must be for {len(images)} images, got draws for {len(draws)}")
    chosen = choose(backend, _device(images))
    if chosen != "cupy" and not isinstance(draws, SingleDraws):
        raise TypeError(f"the {chosen} backend takes SingleDraws, got {type(draws).__name__}")
    run: Callable[..., Any] = (
        pillow_ops.single if chosen == "reference" else _operator("single", chosen, backend, threads)
    )
    with _on_the_stream_of(images, chosen):
        return _as_output(run(_as_input(images, chosen), draws, overflow, axes), images, "uint8")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _per_channel(value: ArrayLike, channels: int) -> NDArray[np.float64]:
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (1,), (channels,)):
        raise ValueError(f"scale and bias must be one number or {channels} numbers, got the shape {array.shape}")
    return np.full(channels, array)
