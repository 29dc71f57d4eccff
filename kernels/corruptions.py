"""Corruptions on batches: the check of what is given, and the choice of the code that runs.

"numpy" is the definition of truth, one image after another on one thread. "native" is C++ on as many threads as asked,
at most one gray level from it. "cupy" are our kernels on a CUDA device, for images that are there. "auto" is one of the
latter two, or the definition on as many threads where neither has the corruption.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apr_dali.corruptions import CorruptionDraws, find
from apr_dali.corruptions.counter import stream_of
from apr_dali.corruptions.draws import LEAST_SIDE
from apr_dali.corruptions.record import Corruption, Parameters, as_drawn
from apr_dali.errors import InputError, check_choice, check_whole
from apr_dali.kernels import arrays, dispatch
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.cuda import corruptions as cuda_corruptions
from apr_dali.kernels.cuda.corrupt_job import Cell

BACKENDS = ("auto", "numpy", "native", "cupy")

Images = NDArray[np.uint8]


def corrupt(
    images: Any,
    name: str,
    severity: int,
    draws: CorruptionDraws,
    *,
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Images under one corruption of ImageNet-C or C-bar.

    Args:
        images: uint8 (N, H, W, 3), 0..255, at least 32 pixels per side: a NumPy array, a torch tensor or a CuPy array.
        name: one of `apr_dali.corruptions.NAMES`, `C_BAR` or `CIFAR_C_BAR`.
        severity: 1 to 5.
        draws: of this corruption and severity for N images of this size; see `CorruptionDraws`.
        backend: "numpy", "native", "cupy", which is for images on a CUDA device, or "auto": cupy for images there and
            native for others, where they can run. Images on a device go to the CPU and back for numpy and native.
        threads: of "native" and "auto", on the CPU; None takes every processor that this process may run on.

    Returns:
        The same kind of array on the same device, truncated as the reference does before it saves. The input is left
        as it is.

    Raises:
        InputError: for anything else than the above.
    """
    record, parameters = find(name, severity, draws.parameter_set if isinstance(draws, CorruptionDraws) else "imagenet")
    _check_images(images)
    _check_draws(tuple(images.shape), name, severity, draws)
    check_options(backend, threads)
    chosen = choose(record, backend, arrays.device_of(images), threads)
    if chosen == "cupy":
        return _on_device(record, parameters, images, draws)
    levels = np.ascontiguousarray(arrays.as_input(images, "native"))
    if chosen == "native":
        out = _native(record, parameters, levels, draws, threads)
    else:
        workers = 1 if backend == "numpy" else native_backend.threads_of(threads)
        out = _one_by_one(record, parameters, levels, draws, workers)
    return arrays.as_output(out, images, "uint8")


def check_options(backend: str, threads: int | None = None) -> None:
    """Raise InputError for a backend that there is not, and for threads that it would not follow."""
    check_choice("backend", backend, BACKENDS)
    if threads is not None and backend not in ("auto", "native"):
        raise InputError(f"threads is for the native backend, got backend={backend!r}")
    if threads is not None:
        check_whole("threads", threads, 1)


def _one_by_one(
    record: Corruption, parameters: Parameters, images: Images, draws: CorruptionDraws, threads: int
) -> Images:
    out = np.empty_like(images)

    def apply(k: int) -> None:
        out[k] = record.apply(images[k], record.resolve(images[k], draws[k], parameters), parameters)

    if min(threads, len(images)) <= 1:
        for k in range(len(images)):
            apply(k)
    else:
        with ThreadPoolExecutor(threads) as pool:
            deque(pool.map(apply, range(len(images))), maxlen=0)
    return out


def _check_images(images: Any) -> None:
    expected = "images must be an array, a NumPy one or a tensor, of uint8 (N, H, W, 3), at least 32 pixels per side"
    try:
        arrays.library_of(images)
    except TypeError as error:
        raise InputError(f"{expected}, got {type(images).__name__}") from error
    kind, shape = arrays.dtype_name(images.dtype), tuple(images.shape)
    if kind != "uint8" or len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < LEAST_SIDE:
        raise InputError(f"{expected}, got {kind} {shape}")


def _check_draws(shape: tuple[int, ...], name: str, severity: int, draws: Any) -> None:
    if not isinstance(draws, CorruptionDraws):
        raise InputError(f"draws must be CorruptionDraws, got {type(draws).__name__}")
    wanted = (name, severity, shape[:3])
    got = (draws.name, draws.severity, (len(draws), draws.height, draws.width))
    if wanted != got:
        raise InputError(f"draws must be for {_described(*wanted)}, got those for {_described(*got)}")


def _described(name: str, severity: int, shape: tuple[int, ...]) -> str:
    return f"{name} {severity} of {shape[0]} images of {shape[1]} × {shape[2]}"


def choose(record: Corruption, backend: str, device: str, threads: int | None = None) -> str:
    """The backend to run for the choice `backend`, one of BACKENDS, and images on "cpu" or "cuda".

    Raises InputError for one that is not for these, and RuntimeError for one that cannot run here.
    """
    if backend == "cupy":
        if device != "cuda":
            raise InputError("backend 'cupy' is for images on a CUDA device: take native or auto, or move them there")
        check_device(record.name)
        return backend
    if backend == "auto" and device == "cuda" and threads is None and _cupy_refuses(record.name) is None:
        return "cupy"
    return backend if backend == "numpy" else _choose_on_cpu(record, backend)


def _choose_on_cpu(record: Corruption, backend: str) -> str:
    if not record.native:
        if backend == "native":
            raise InputError(f"{record.name} has no native operator: take the backend numpy or auto")
        return "numpy"
    try:
        native_backend.check()
    except ImportError as error:
        if backend == "native":
            raise RuntimeError(f"backend 'native' cannot run here: {error}") from error
        return "numpy"
    return "native"


def check_device(name: str) -> None:
    """Raise InputError where corruption `name` cannot run on a CUDA device here, with the reason."""
    refusal = _cupy_refuses(name)
    if refusal is not None:
        raise InputError(refusal)


def _cupy_refuses(name: str) -> str | None:
    if name not in cuda_corruptions.LAUNCHERS:
        known = ", ".join(cuda_corruptions.LAUNCHERS)
        return f"{name} has no CUDA kernel, there are those of {known}: take auto, numpy or native, on the CPU"
    found = dispatch.availability("cupy")
    return None if found.available else f"backend 'cupy' cannot run here: {found.reason}"


def _given(record: Corruption, parameters: Parameters, images: Any, draws: CorruptionDraws) -> list[NDArray[Any]]:
    """Draws that are not sampled, of all images for each field."""
    if draws.seed is not None or not len(draws):
        return []
    if record.resolve is as_drawn:
        resolved = list(draws)
    else:
        levels = arrays.as_input(images, "native")
        resolved = [record.resolve(image, draws[k], parameters) for k, image in enumerate(levels)]
    return [np.stack([each[field] for each in resolved]).astype(np.float64) for field in resolved[0]]


def _native(
    record: Corruption, parameters: Parameters, images: Images, draws: CorruptionDraws, threads: int | None
) -> Images:
    height, width = images.shape[1:3]
    given = _given(record, parameters, images, draws)
    constants = [np.ascontiguousarray(each, np.float64) for each in record.constants(parameters, height, width)]
    key = (draws.seed or 0, stream_of(record.name, draws.severity))
    return native_backend.corrupt(record.name, images, constants, given, key, draws.numbers, threads)


def _on_device(record: Corruption, parameters: Parameters, images: Any, draws: CorruptionDraws) -> Any:
    given = _given(record, parameters, images, draws)
    cell = Cell(record.name, draws.severity, draws.parameter_set)
    return corrupt_on_device(images, cell, draws.seed or 0, draws.numbers, given)


def corrupt_on_device(images: Any, cell: Cell, seed: int, numbers: Any, given: list[NDArray[Any]] | None = None) -> Any:
    """`corrupt` by the cupy backend, with sampled draws or with `given` ones, where the device is not to be waited for.

    images: uint8 (N, H, W, 3). numbers: of the images, whole numbers (N,) from 0 on, on the host or as a CuPy array,
    which is taken on trust. given: float64 (N, ...) for each field of the draws.
    Raises InputError for images that are none, and for another number of numbers.
    """
    _check_images(images)
    if tuple(numbers.shape) != (len(images),):
        raise InputError(f"numbers must be of {len(images)} images, got the shape {tuple(numbers.shape)}")
    with arrays.on_the_stream_of(images, "cupy"):
        key = (seed, stream_of(cell.name, cell.severity))
        out = cuda_corruptions.corrupt(arrays.as_input(images, "cupy"), cell, given or [], key, numbers)
        return arrays.as_output(out, images, "uint8")
