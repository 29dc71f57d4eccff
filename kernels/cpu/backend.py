"""The operators in C++ on the CPU: NumPy arrays in and out, as many threads as asked, the interpreter's lock free.

The extension is built once for each instruction set, and the best one that this machine has is loaded; the
environment variable APR_DALI_NATIVE_LEVEL asks for one by name. Arguments are checked in `apr_dali.functional`, and
once more in C++ where a wrong one could reach memory that is not ours.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from apr_dali.draws import SingleDraws
from apr_dali.errors import InputError, check_choice
from apr_dali.kernels.cpu import sources
from apr_dali.kernels.cpu.memory import Pool
from apr_dali.kernels.protocol import PairTask
from apr_dali.runtime import cpus

LEVELS = ("v4", "v3", "baseline")
"""x86-64-v4 (AVX-512), x86-64-v3 (AVX2) and what every processor of this kind can do; the best first."""

LEVEL_VARIABLE = "APR_DALI_NATIVE_LEVEL"

REBUILD = f'pip install --no-deps -e "{sources.FOLDER.parents[1]}"'
"""The command that compiles the extension again, in a clone."""

Array = NDArray[Any]

POOL = Pool()
"""The memory of results."""


class OtherSourcesError(InputError):
    """The extension was compiled from other sources than those beside it."""


def contiguous(values: Any, dtype: DTypeLike | None = None) -> Array:
    """C-contiguous and aligned, as C++ takes it for granted, and of `dtype` if given; without a copy where it is so."""
    array = np.ascontiguousarray(values, dtype)
    return array if array.flags.aligned else array.copy()


def _module(level: str) -> Any:
    module = importlib.import_module(f"apr_dali.kernels.cpu._native_{level}")
    # Where sources lie beside it, as in a clone, the extension must be theirs.
    if sources.digest() not in (None, getattr(module, "sources", None)):
        raise OtherSourcesError(
            f"{module.__file__} was compiled from other sources than those beside it: compile it again by `{REBUILD}`, "
            "or remove it, and another level or torch serves in its place"
        )
    return module


@cache
def load(level: str) -> Any:
    """The extension module for one of LEVELS, or for "" the best one.

    Raises ImportError with the reason where there is none, and InputError for a level that cannot run and for one of
    other sources than are here: nobody should take what is slower, or another result, for what was asked for.
    """
    if level:
        check_choice(LEVEL_VARIABLE, level, LEVELS)
    try:
        supported = _module("baseline").supported()
    except ModuleNotFoundError as error:
        reason = (
            "the extension was not built: install a C++20 compiler (g++ 12 or clang 16, or newer), then run "
            "`pip install --force-reinstall --no-deps` with this package again"
        )
        raise (InputError(f"{LEVEL_VARIABLE}={level}: {reason}") if level else ImportError(reason)) from error
    if level and level not in supported:
        raise InputError(f"{LEVEL_VARIABLE}={level}: this machine has {', '.join(supported)} only")
    built = [name for name in supported if _is_built(name)]
    if level and level not in built:
        raise InputError(f"{LEVEL_VARIABLE}={level} was not built: there are {', '.join(built)}")
    return _module(level or built[0])


def _is_built(level: str) -> bool:
    return importlib.util.find_spec(f"apr_dali.kernels.cpu._native_{level}") is not None


def extension() -> Any:
    """The extension module that runs here; raises what `load` does."""
    return load(os.environ.get(LEVEL_VARIABLE, ""))


def check() -> tuple[bool, str]:
    """Whether this backend can run here, and why not."""
    level = extension().__name__.rpartition("_native_")[2]
    best = extension().supported()[0]
    return True, f"C++, {level}" + (f" ({best} was not built)" if not _is_built(best) else "")


@dataclass(frozen=True)
class Native:
    """The operators on `threads` threads; None takes every CPU that this process may run on."""

    threads: int | None = None

    def check(self) -> tuple[bool, str]:
        return check()

    def recombine(self, phase_of: Array, amplitude_of: Array, axes: str) -> Array:
        """See `apr_dali.recombine`; float32 and float64 are computed as such, float16 in float32."""
        dtype = phase_of.dtype
        kind = np.float64 if dtype == np.float64 else np.float32
        first, second = (contiguous(images, kind) for images in (phase_of, amplitude_of))
        out = POOL.empty(first.shape, kind)
        extension().recombine(first, second, axes, out, threads_of(self.threads))
        return out.astype(dtype, copy=False)

    def pair(self, task: PairTask) -> Array:
        """See `apr_dali.pair`; bfloat16, which NumPy lacks, comes as the uint16 of its bits."""
        levels = task.images.dtype == np.uint8
        images = contiguous(task.images, np.uint8 if levels else np.float32)
        partner = contiguous(task.partner, np.int64)
        out = POOL.empty(task.out_shape, "uint16" if task.dtype == "bfloat16" else task.dtype)
        scales = (task.in_scale, task.in_bias, task.out_scale, task.out_bias)
        how = (task.dtype, task.memory_format == "channels_last", task.axes, task.with_clean)
        extension().pair(images, partner, task.mix, *scales, *how, out, threads_of(self.threads))
        return task.planes_of(out)

    def single(self, images: Array, draws: SingleDraws, overflow: str, axes: str) -> Array:
        """See `apr_dali.single`; uint8 (N, H, W, 3)."""
        given = contiguous(images)
        out = POOL.empty(given.shape, np.uint8)
        choices = (
            contiguous(draws.operation, np.uint8),
            contiguous(draws.parameters, np.float64),
            contiguous(draws.mix, np.bool_),
            contiguous(draws.amplitude_of_second, np.bool_),
        )
        extension().single(given, *choices, overflow == "wrap", axes, out, threads_of(self.threads))
        return out


def corrupt(
    name: str,
    images: Array,
    constants: Sequence[Array],
    given: Sequence[Array],
    key: tuple[int, int],
    numbers: Array,
    threads: int | None = None,
) -> Array:
    """See `apr_dali.corrupt`; uint8 (N, H, W, 3).

    constants: what the corruption needs to know, float64. given: its draws for all images, float64 (N, ...) each; none
    of them where it draws by itself, from the Philox stream of `key` for the images of these `numbers`, uint64 (N,).
    """
    out = POOL.empty(images.shape, np.uint8)
    of_images = contiguous(numbers, np.uint64)
    extension().corrupt(name, images, list(constants), list(given), *key, of_images, out, threads_of(threads))
    return out


def round_trip(images: Array, threads: int | None = None) -> Array:
    """float32 (N, C, H, W) over rows and columns to spectra and back: the transforms alone, for benchmarks."""
    out = POOL.empty(images.shape, np.float32)
    extension().round_trip(images, out, threads_of(threads))
    return out


def threads_of(threads: int | None) -> int:
    """As many as asked; None: as many as there are CPUs for this process."""
    return cpus.usable() if threads is None else threads
