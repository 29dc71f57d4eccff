"""Corruptions on batches: the check of what is given, and the choice of the code that runs.

"numpy" is the definition of truth, one image after another on one thread. "native" is C++ on as many threads as asked,
at most one gray level from it. "auto" is "native", or the definition on as many threads where there is nothing native.
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
from apr_dali.corruptions.record import Corruption, Parameters
from apr_dali.errors import InputError, check_choice, check_whole
from apr_dali.kernels import arrays
from apr_dali.kernels.cpu import backend as native_backend

BACKENDS = ("auto", "numpy", "native")

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
    """Images under one corruption of ImageNet-C or C-bar, computed on the CPU.

    Args:
        images: uint8 (N, H, W, 3), 0..255, at least 32 pixels per side: a NumPy array, a torch tensor or a CuPy array.
        name: one of `apr_dali.corruptions.NAMES`, `C_BAR` or `CIFAR_C_BAR`.
        severity: 1 to 5.
        draws: of this corruption and severity for N images of this size; see `CorruptionDraws`.
        backend: "numpy", "native", or "auto": native where it is there.
        threads: of "native" and "auto"; None takes every processor that this process may run on.

    Returns:
        The same kind of array on the same device, truncated as the reference does before it saves. The input is left
        as it is.

    Raises:
        InputError: for anything else than the above.
    """
    record, parameters = find(name, severity, draws.parameter_set if isinstance(draws, CorruptionDraws) else "imagenet")
    levels = _checked(images)
    _check_draws(levels, name, severity, draws)
    check_options(backend, threads)
    chosen = _choose(record, backend)
    if chosen == "native" and not record.library:
        out = _native(record, parameters, levels, draws, threads)
    else:
        workers = 1 if backend == "numpy" else native_backend.threads_of(threads)
        out = _one_by_one(record, parameters, levels, draws, workers)
    return arrays.as_output(out, images, "uint8")


def check_options(backend: str, threads: int | None = None) -> None:
    """Raise InputError for a backend that there is not, and for threads that it would not follow."""
    check_choice("backend", backend, BACKENDS)
    if threads is not None and backend == "numpy":
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


def _checked(images: Any) -> Images:
    expected = "images must be an array, a NumPy one or a tensor, of uint8 (N, H, W, 3), at least 32 pixels per side"
    try:
        arrays.library_of(images)
    except TypeError as error:
        raise InputError(f"{expected}, got {type(images).__name__}") from error
    kind, shape = arrays.dtype_name(images.dtype), tuple(images.shape)
    if kind != "uint8" or len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < LEAST_SIDE:
        raise InputError(f"{expected}, got {kind} {shape}")
    return np.ascontiguousarray(arrays.as_input(images, "native"))


def _check_draws(images: Images, name: str, severity: int, draws: Any) -> None:
    if not isinstance(draws, CorruptionDraws):
        raise InputError(f"draws must be CorruptionDraws, got {type(draws).__name__}")
    wanted = (name, severity, images.shape[:3])
    got = (draws.name, draws.severity, (len(draws), draws.height, draws.width))
    if wanted != got:
        raise InputError(f"draws must be for {_described(*wanted)}, got those for {_described(*got)}")


def _described(name: str, severity: int, shape: tuple[int, ...]) -> str:
    return f"{name} {severity} of {shape[0]} images of {shape[1]} × {shape[2]}"


def _choose(record: Corruption, backend: str) -> str:
    if backend == "numpy":
        return backend
    if record.library:
        return "native"
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


def _native(
    record: Corruption, parameters: Parameters, images: Images, draws: CorruptionDraws, threads: int | None
) -> Images:
    n, height, width = images.shape[:3]
    given: list[NDArray[Any]] = []
    if draws.seed is None and n:
        resolved = [record.resolve(image, draws[k], parameters) for k, image in enumerate(images)]
        given = [np.stack([each[field] for each in resolved]).astype(np.float64) for field in resolved[0]]
    constants = [np.ascontiguousarray(each, np.float64) for each in record.constants(parameters, height, width)]
    key = (draws.seed or 0, stream_of(record.name, draws.severity))
    return native_backend.corrupt(record.name, images, constants, given, key, draws.numbers, threads)
