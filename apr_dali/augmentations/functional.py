"""An augmentation on a batch: the checks, the choice of the code that runs, and what becomes of the levels."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali import spectral
from apr_dali.augmentations.record import OVERFLOWS, Augmentation, Draws
from apr_dali.augmentations.registry import find
from apr_dali.errors import InputError, check_choice
from apr_dali.functional import check_images, check_no_gradient
from apr_dali.kernels import arrays, dispatch, torch_backend
from apr_dali.kernels.cpu.augmentations import NativeBatch
from apr_dali.kernels.cuda.augmentations import CudaBatch

BACKENDS = ("auto", "native", "cupy", "torch", "reference")

_OVERSHOOT = 0.1

_HOMES = {"native": ("cpu", "the CPU"), "cupy": ("cuda", "a CUDA device")}
"""Where the images lie that a backend of kernels is for, and how that is told."""


def apply(
    augmentation: str | Augmentation,
    images: Any,
    draws: Draws,
    *,
    overflow: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """An augmentation of a batch with given draws.

    Args:
        augmentation: by name, see `apr_dali.augmentations.NAMES`, or the augmentation itself.
        images: uint8 (N, H, W, C), 0..255, or floating (N, C, H, W), in 0..1 where the augmentation is `unit`. Some
            take uint8 (N, H, W, 3) alone: those whose draws contain operations of APR-S.
        draws: of this augmentation, for N images of this size.
        overflow: how values become levels of uint8 images, one of OVERFLOWS; None takes the published way.
        backend: "native", C++ on the CPU in float32, which most augmentations have; "cupy", our kernels on a CUDA
            device in float32, likewise; "torch"; "reference", which is the definition in float64 and far too slow for
            anything but tests; or "auto": native or cupy where it can run, for all but float64 images, and torch
            elsewhere.
        threads: of the native backend; None takes every processor that this process may run on.

    Returns:
        The same kind of array, of the same dtype, on the same device. Floating images are not clipped unless `unit`.

    Raises:
        InputError: for draws that are not for these images, options that would have no effect, and a native or
            cupy backend that cannot run.
    """
    record = find(augmentation)
    check_options(overflow, backend, threads)
    check_images(images)
    check_no_gradient(images)
    levels = _checked_levels(record, images, overflow)
    _check_draws(record, images, draws)
    chosen = choose(record, arrays.device_of(images), arrays.dtype_name(images.dtype), backend)
    if chosen == "native":
        return _natively(record, images, draws, levels, threads)
    if record.unit and levels is None and len(images) and not arrays.on_device(images):
        _check_unit(record, float(images.min()), float(images.max()))  # on a device it would synchronize
    if chosen == "reference":
        return _by_definition(record, images, draws, levels)
    if chosen == "cupy":
        return _by_cupy(record, images, draws, levels)
    return _by_torch(record, images, draws, levels)


def sample_and_apply(
    augmentation: str | Augmentation,
    images: Any,
    seed: int | np.random.Generator | None,
    *,
    dataset: str = "cifar10",
    overflow: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
    **changes: Any,
) -> Any:
    """`apply` with draws of a seed, by the recipe for `dataset` with `changes` of its settings.

    A pure function of images and seed: what a step of a pipeline calls whose graph draws the seed. images: uint8
    (N, H, W, C) or floating (N, C, H, W), as for `apply`.
    """
    record = find(augmentation)
    check_images(images)
    height, width, channels = _sizes(images)
    draws = record.sample(len(images), height, width, seed, channels=channels, dataset=dataset, **changes)
    return apply(record, images, draws, overflow=overflow, backend=backend, threads=threads)


def apply_in_graph(
    images: Any,
    numbers: Any,
    coins: Any = None,
    *,
    augmentation: str | Augmentation,
    backend: str = "auto",
    **options: Any,
) -> Any:
    """`sample_and_apply` as a step of a DALI graph calls it by `pipelines.per_batch`, once per batch.

    images: uint8 (N, H, W, C) or floating (N, C, H, W), NumPy's or CuPy's. numbers: integers (N,) or (N, 1), one that
    the graph drew for each image, on the host; the first is the seed of the batch's draws. coins: float (N, COINS), on
    the host, of which the first are the batch's, see `Augmentation.coin`; None: they follow the seed. options: those of
    `sample_and_apply`.
    """
    seed = int(numbers.reshape(-1)[0])
    if coins is not None:
        options["coin"] = coins[0].tolist()
    return sample_and_apply(augmentation, images, seed, backend=backend, **options)


def check_options(overflow: str | None, backend: str, threads: int | None = None) -> None:
    """Raise InputError for options of `apply` that are none, whatever the images."""
    check_choice("backend", backend, BACKENDS)
    dispatch.check_backend(backend, threads)
    if overflow is not None:
        check_choice("overflow", overflow, OVERFLOWS)


def choose(record: Augmentation, device: str, dtype: str, backend: str) -> str:
    """The backend to run for the choice `backend`, one of BACKENDS, and images of this dtype on "cpu" or "cuda".

    Raises InputError for one that cannot run them.
    """
    if backend in ("torch", "reference"):
        return backend
    wanted = {"cpu": "native", "cuda": "cupy"}[device] if backend == "auto" else backend
    reason = _refusal(record, wanted, device, dtype)
    if reason is None:
        return wanted
    if backend != "auto":
        raise InputError(f"backend {backend!r} cannot run {record.name}: {reason}. Take backend='torch'")
    return "torch"


def _refusal(record: Augmentation, backend: str, device: str, dtype: str) -> str | None:
    """Why the backend "native" or "cupy" cannot run; None where it can."""
    form, kind = (record.native_form, "form in C++") if backend == "native" else (record.cuda_form, "CUDA kernel")
    home, told = _HOMES[backend]
    if form is None:
        return f"it has no {kind}"
    if device != home:
        return f"it is for images on {told}, got {device}"
    if dtype == "float64":
        return "it computes in float32, got float64 images"
    found = dispatch.availability(backend)
    return None if found.available else found.reason


def _sizes(images: Any) -> tuple[int, int, int]:
    """(H, W, C) of an image."""
    first, second, third = map(int, images.shape[1:])
    return (first, second, third) if _are_levels(images) else (second, third, first)


def _are_levels(images: Any) -> bool:
    return arrays.dtype_name(images.dtype) == "uint8"


def _check_unit(record: Augmentation, low: float, high: float) -> None:
    """Raise InputError for floating images that are not in 0..1, but for what a resampling overshoots."""
    if not -_OVERSHOOT <= low <= high <= 1 + _OVERSHOOT:
        raise InputError(
            f"{record.name} takes floating images in 0..1, before they are normalized; got values from {low:.3g} "
            f"to {high:.3g}"
        )


def _checked_levels(record: Augmentation, images: Any, overflow: str | None) -> str | None:
    """How values become uint8; None for floating images."""
    if _are_levels(images):
        if record.takes == "levels" and images.shape[-1] != 3:
            raise InputError(f"{record.name} takes images of 3 channels (N, H, W, 3), got {tuple(images.shape)}")
        return overflow or record.overflow
    if record.takes == "levels":
        kind, shape = arrays.dtype_name(images.dtype), tuple(images.shape)
        raise InputError(
            f"{record.name} takes uint8 images (N, H, W, 3), before the conversion to float; got {kind} "
            f"of the shape {shape}"
        )
    if overflow is not None:
        raise InputError(f"overflow={overflow!r} has no effect on floating images: their values stay as they are")
    return None


def _check_draws(record: Augmentation, images: Any, draws: Any) -> None:
    if not isinstance(draws, record.draws):
        raise InputError(f"{record.name} takes {record.draws.__name__}, got {type(draws).__name__}")
    wanted = (len(images), *_sizes(images))
    got = (len(draws), draws.height, draws.width, draws.channels)
    if wanted != got:
        raise InputError(
            "draws must be for {} images of {} × {} and {} channels, got those for {} of {} × {} and {}".format(
                *wanted, *got
            )
        )


def _by_definition(record: Augmentation, images: Any, draws: Draws, levels: str | None) -> Any:
    host = arrays.as_input(images, "reference")
    if record.takes == "levels":
        values = record.define(host, draws)
    else:
        values = record.define(spectral.to_planes(host) / (1 if levels is None else 255), draws)
    name = arrays.dtype_name(images.dtype)
    if levels is None:
        return arrays.as_output(values, images, name)
    values = values if record.takes == "levels" else values * 255
    return arrays.as_output(np.ascontiguousarray(np.moveaxis(to_levels(values, levels), 1, -1)), images, name)


def _natively(record: Augmentation, images: Any, draws: Draws, levels: str | None, threads: int | None) -> Any:
    kind = np.float32 if levels is None else np.uint8
    given = np.asarray(arrays.as_input(images, "native"), kind, order="C")  # type and order by one copy
    # The functions for values in 0..1 look at them as they pass: a look at all of them before is a pass of its own.
    batch = NativeBatch(given, levels, threads, partial(_check_unit, record) if record.unit else None)
    assert record.native_form is not None
    return arrays.as_output(record.native_form(batch, draws), images, arrays.dtype_name(images.dtype))


def _by_cupy(record: Augmentation, images: Any, draws: Draws, levels: str | None) -> Any:
    assert record.cuda_form is not None
    with arrays.on_the_stream_of(images, "cupy"):
        result = record.cuda_form(CudaBatch(arrays.as_input(images, "cupy"), levels), draws)
        return arrays.as_output(result, images, arrays.dtype_name(images.dtype))


def to_levels(values: NDArray[np.float64], overflow: str) -> NDArray[np.uint8]:
    """Real gray values of any shape, say (N, C, H, W), as uint8 by one of OVERFLOWS."""
    if overflow == "truncate":
        return (np.clip(values, 0, 255) + spectral.TRUNCATION_SLACK).astype(np.uint8)
    return spectral.to_levels(values, overflow)


def _by_torch(record: Augmentation, images: Any, draws: Draws, levels: str | None) -> Any:
    with arrays.on_the_stream_of(images, "torch"):
        result = _of_tensor(record, arrays.as_input(images, "torch"), draws, levels)
        return arrays.as_output(result, images, arrays.dtype_name(images.dtype))


def _of_tensor(record: Augmentation, images: Tensor, draws: Draws, levels: str | None) -> Tensor:
    if not len(images):
        return images.clone()
    if record.takes == "levels":
        values = record.torch_form(images, draws)
    elif levels is None:
        # torch transforms no bfloat16, and float16 only for some sizes on a GPU.
        working = images.dtype if images.dtype == torch.float64 else torch.float32
        return record.torch_form(images.to(working), draws).to(images.dtype)
    else:
        values = record.torch_form(images.permute(0, 3, 1, 2).to(torch.float32) / 255, draws) * 255
    if levels == "truncate":
        whole = (values.clamp(0, 255) + spectral.TRUNCATION_SLACK).to(torch.uint8)
    else:
        whole = torch_backend.to_levels(values, str(levels))
    return whole.permute(0, 2, 3, 1).contiguous()
