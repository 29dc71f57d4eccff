"""What the GPU operators ask of CuPy: whether they can run, memory, launches, cuFFT plans.

All of it on the current device and its current stream; nothing here waits for the device. The tests have a stand-in
that runs the same kernels on the CPU.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from apr_dali.errors import first_line, install_command
from apr_dali.kernels.cuda import nvrtc
from apr_dali.kernels.cuda.launch import Launch

Array = Any

NULL = np.uintp(0)
"""The pointer to nothing, as an argument of a kernel."""

_ALIGNMENT = 16
_PIECE = 256
"""Bytes that arrays of one copy start at a multiple of, as those of CuPy's pool do."""


class CudaDevice:
    """CuPy's current device with its current stream."""

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        self._number = int(cupy.cuda.Device().id)
        self.key = (self._number, int(cupy.cuda.get_current_stream().ptr))
        """The device and the stream: what is kept for one stream must not be used on another."""

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """Memory of CuPy's pool, which gives it out again in the order of the stream."""
        return self._cupy.empty(tuple(shape), dtype)

    def put(self, *given: tuple[Any, DTypeLike]) -> list[Array]:
        """Copies of host arrays as these types: all by one copy, from pinned memory, which nobody waits for."""
        arrays = [(np.asarray(values), np.dtype(dtype)) for values, dtype in given]
        sizes = [-(-values.size * kind.itemsize // _PIECE) * _PIECE for values, kind in arrays]
        *starts, whole = accumulate(sizes, initial=0)
        if not whole:
            return [self.empty(values.shape, kind) for values, kind in arrays]
        _in_flight.let_go()
        pinned = self._cupy.cuda.alloc_pinned_memory(whole)
        copied = self.empty((whole,), "u1")
        made = []
        for (values, kind), start in zip(arrays, starts, strict=True):
            np.frombuffer(pinned, kind, values.size, start).reshape(values.shape)[...] = values
            made.append(self._cupy.ndarray(values.shape, kind, copied.data + start))
        copied.data.copy_from_host_async(pinned.ptr, whole)
        read = self._cupy.cuda.Event(disable_timing=True)
        read.record()
        _in_flight.keep(pinned, read)
        return made

    def contiguous(self, array: Array, dtype: DTypeLike) -> Array:
        """`array` itself where it is contiguous, aligned and of `dtype` already, else a copy that is."""
        given = self._cupy.ascontiguousarray(array, dtype=dtype)
        return given if given.data.ptr % _ALIGNMENT == 0 else given.copy()

    def launch(self, program: nvrtc.Program, kernel: str, shape: Launch, args: Sequence[Any]) -> None:
        """Start a kernel; integers and floats among `args` are NumPy scalars of the kernel's own types."""
        function = _function(program, kernel, self._number)
        function((shape.grid,), (shape.block,), tuple(args), shared_mem=shape.shared)

    def plan(self, dims: Sequence[int], batch: int, real: str, forward: bool) -> Callable[[Array, Array], None]:
        """A cuFFT transform run(from, to) of `batch` contiguous blocks over `dims`; back, it destroys its input."""
        from cupy.cuda import cufft

        kinds = {
            ("float32", True): cufft.CUFFT_R2C,
            ("float32", False): cufft.CUFFT_C2R,
            ("float64", True): cufft.CUFFT_D2Z,
            ("float64", False): cufft.CUFFT_Z2D,
        }
        direction = cufft.CUFFT_FORWARD if forward else cufft.CUFFT_INVERSE
        plan = cufft.PlanNd(tuple(dims), None, 1, 0, None, 1, 0, kinds[real, forward], batch, "C", -1, None)
        return lambda given, out: plan.fft(given, out, direction)


class _InFlight:
    """Pinned memory that copies to a device still read: its pool would give it out again."""

    def __init__(self) -> None:
        self._held: list[tuple[Any, Any]] = []
        self._lock = threading.Lock()

    def keep(self, pinned: Any, read: Any) -> None:
        """Until the event `read`, when `let_go` lets it go."""
        with self._lock:
            self._held.append((pinned, read))

    def let_go(self) -> None:
        with self._lock:
            self._held = [(memory, event) for memory, event in self._held if not event.done]


_in_flight = _InFlight()


@cache
def _function(program: nvrtc.Program, kernel: str, device: int) -> Any:
    return nvrtc.load(program, device).get_function(kernel)


class Cache:
    """The most recently used of what was made for a key; older things than `limit` go."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, list[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def shared(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The thing of `key`, which many may read at a time."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            else:
                self._entries[key] = [make()]
                self._trim()
            return self._entries[key][0]

    @contextmanager
    def borrowed(self, key: Hashable, make: Callable[[], Any]) -> Iterator[Any]:
        """A thing of `key` that nobody else has meanwhile; two threads at a time get two."""
        with self._lock:
            free = self._entries.get(key)
            thing = free.pop() if free else None
        if thing is None:
            thing = make()
        yield thing
        with self._lock:
            self._entries.setdefault(key, []).append(thing)
            self._entries.move_to_end(key)
            self._trim()

    def _trim(self) -> None:
        while len(self) > self._limit:
            oldest = next(iter(self._entries))
            if self._entries[oldest]:
                self._entries[oldest].pop()
            if not self._entries[oldest]:
                del self._entries[oldest]


def check() -> tuple[bool, str]:
    """Whether this backend can run here, and why not."""
    import cupy

    cuda = cupy.cuda.runtime.runtimeGetVersion() // 1000
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return False, _no_device(cuda, cupy.cuda.runtime.driverGetVersion(), f"{error}")
    if count == 0:
        return False, "the driver finds no GPU"
    for library, load in (("NVRTC", _nvrtc_version), ("cuFFT", _cufft_version)):
        try:
            load()
        except (ImportError, OSError, RuntimeError) as error:
            remedy = f"{install_command(f'cuda{cuda}')} brings it"
            return False, f"{library} does not load, {remedy}: {first_line(error)}"
    known = min(cupy.cuda.nvrtc.getSupportedArchs())
    capability = int(cupy.cuda.Device().compute_capability)
    if capability < known:
        return False, _too_old(cuda, capability, known)
    return True, f"CuPy {cupy.__version__}"


def _no_device(cuda: int, driver: int, words: str) -> str:
    """cuda: the major version that CuPy is built for. driver: the version of CUDA that it knows; 0 without one."""
    if driver == 0:
        return "no NVIDIA driver"
    if driver // 1000 < cuda:
        oldest = {12: 525, 13: 580}.get(cuda)
        newer = f"update it to {oldest} or newer" if oldest else "update it"
        known = f"{driver // 1000}.{driver % 1000 // 10}"
        return f"the NVIDIA driver supports CUDA up to {known}, CuPy is built for CUDA {cuda}: {newer}"
    return f"no CUDA device: {words}"


def _too_old(cuda: int, capability: int, known: int) -> str:
    """capability: of the device; known: the oldest that NVRTC compiles for; both as 75 for 7.5."""
    has, needs = (f"{value // 10}.{value % 10}" for value in (capability, known))
    instead = f"; {install_command('cuda12')} brings one for older GPUs" if cuda > 12 else ""
    return f"the GPU has compute capability {has}, NVRTC of CUDA {cuda} compiles for {needs} and newer{instead}"


def _nvrtc_version() -> None:
    from cupy.cuda import nvrtc as library

    library.getVersion()


def _cufft_version() -> None:
    from cupy.cuda import cufft

    cufft.getVersion()
