"""A stand-in for `CudaDevice` that runs the CUDA kernels on the CPU: NumPy arrays, g++ and cuda_shim.hpp."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from apr_dali.kernels.cuda import nvrtc
from apr_dali.kernels.cuda.launch import SHARED_LIMIT, Launch

SHIM = Path(__file__).resolve().parent / "cuda_shim.hpp"
_KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\((.*)\)\s+)?(\w+)\(')
_FAULTS = ("", "a barrier that not all threads reach", "shared memory overrun", "more threads than its launch bounds")
_MOST_THREADS = 1024  # of a block, whatever the kernel
_GUARD = 64


def build(program: nvrtc.Program, folder: Path, text: str | None = None) -> ctypes.CDLL:
    """The program, or `text` with its definitions, as a library of the CPU, in `folder` once for all processes."""
    code = nvrtc.source(program.file) if text is None else text
    launchers = "\n".join(f"LAUNCHER({name}, {bounds or _MOST_THREADS})" for bounds, name in _KERNEL.findall(code))
    defines = "\n".join(f"#define {name} {value}" for name, value in program.defines)
    whole = f'#include "cuda_shim.hpp"\n{defines}\n{code}\n{launchers}\n'
    path, header = folder / f"{hashlib.sha256(whole.encode()).hexdigest()[:16]}.cpp", folder / SHIM.name
    _make(header, partial(shutil.copy, SHIM))
    # The standard library's headers take longer than a kernel.
    _make(folder / f"{SHIM.name}.gch", partial(_compile, "-x", "c++-header", header, "-o"))
    _make(path, lambda part: part.write_text(whole))
    library = _make(path.with_suffix(".so"), partial(_compile, "-shared", path, "-o"))
    return ctypes.CDLL(str(library))


def _make(path: Path, make: Callable[[Path], Any]) -> Path:
    """The path of a file that is made where it is not there, and is there as a whole for other processes."""
    if not path.exists():
        part = path.with_name(f"{os.getpid()}-{path.name}")
        make(part)
        part.replace(path)
    return path


def _compile(*arguments: str | Path) -> None:
    flags = ["-std=c++20", "-O1", "-w", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing"]
    done = subprocess.run(["g++", *flags, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run_kernel(library: ctypes.CDLL, kernel: str, shape: Launch, args: Sequence[Any], seed: int = 1) -> None:
    """Run a kernel: arrays go as pointers, NumPy scalars as themselves."""
    values = [np.uintp(arg.ctypes.data) if isinstance(arg, np.ndarray) else arg for arg in args]
    assert all(isinstance(value, np.generic) for value in values), values
    held = [np.array(value) for value in values]
    pointers = (ctypes.c_void_p * len(held))(*(value.ctypes.data for value in held))
    status = getattr(library, f"launch_{kernel}")(shape.grid, shape.block, shape.shared, seed, pointers)
    assert status == 0, f"{kernel}: {_FAULTS[status]}"


class HostCuda:
    """One device with one stream.

    launched: the kernels in their order. made: the shapes of its buffers. kinds: of each shape the latest dtype.
    copies: from the host to the device.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key: tuple[int, int] = (0, 0)
        self.launched: list[str] = []
        self.made: list[tuple[int, ...]] = []
        self.kinds: dict[tuple[int, ...], str] = {}
        self.plans = 0
        self.copies = 0
        self.seed = 1
        self._guards: list[tuple[np.ndarray, int]] = []

    def empty(self, shape: Sequence[int], dtype: Any) -> np.ndarray:
        """Memory full of marks, with marks around it that `check` looks for."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        # 64 bytes aligned, as CuPy's memory is at the least.
        memory = np.full(size + 2 * _GUARD + 64, 0xAB, np.uint8)
        start = -memory.ctypes.data % 64 + _GUARD
        self._guards.append((memory[start - _GUARD : start + size + _GUARD], size))
        self.made.append(tuple(shape))
        self.kinds[tuple(shape)] = str(dtype)
        return memory[start : start + size].view(dtype).reshape(shape)

    def check(self) -> None:
        """Whether no kernel wrote beyond the memory it was given."""
        for memory, size in self._guards:
            assert (memory[:_GUARD] == 0xAB).all()
            assert (memory[_GUARD + size :] == 0xAB).all()

    def put(self, *given: tuple[Any, Any]) -> list[np.ndarray]:
        self.copies += 1
        return [self._copied(np.asarray(values).astype(dtype)) for values, dtype in given]

    def _copied(self, values: np.ndarray) -> np.ndarray:
        out = self.empty(values.shape, values.dtype)
        out[...] = values
        return out

    def contiguous(self, array: np.ndarray, dtype: Any) -> np.ndarray:
        given = np.ascontiguousarray(array, dtype=dtype)
        return given if given.ctypes.data % 16 == 0 else self._copied(given)

    def launch(self, program: nvrtc.Program, kernel: str, shape: Launch, args: Sequence[Any]) -> None:
        self.launched.append(kernel)
        assert shape.shared <= SHARED_LIMIT
        run_kernel(build(program, self.folder), kernel, shape, args, self.seed)

    def plan(self, dims: Sequence[int], batch: int, real: str, forward: bool) -> Callable[..., None]:
        self.plans += 1
        return partial(self._transform, tuple(dims), batch, real, forward)

    def _transform(
        self, dims: tuple[int, ...], batch: int, real: str, forward: bool, given: np.ndarray, out: np.ndarray
    ) -> None:
        self.launched.append("cufft")
        axes = tuple(range(1, len(dims) + 1))
        kind = "complex64" if real == "float32" else "complex128"
        if forward:
            assert (given.dtype, given.size) == (real, batch * np.prod(dims))
            out[...] = np.fft.rfftn(given.reshape(batch, *dims), axes=axes).astype(kind).reshape(out.shape)
        else:
            assert (given.dtype, out.dtype) == (kind, real)
            half = given.reshape(batch, *dims[:-1], dims[-1] // 2 + 1)
            back = np.fft.irfftn(half, s=dims, axes=axes) * np.prod(dims)
            out.reshape(-1)[: back.size] = back.astype(real).reshape(-1)
            given[...] = np.nan  # as cuFFT destroys its input
