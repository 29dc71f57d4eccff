"""Copies to a device, and why the GPU backend cannot run, in words that say what to do about it."""

import ctypes
import gc
from types import SimpleNamespace

import numpy as np
import pytest

from apr_dali.errors import install_command
from apr_dali.kernels.cuda import device


@pytest.mark.parametrize(
    ("cuda", "driver", "expected"),
    [
        (12, 0, "no NVIDIA driver"),
        (12, 11040, "supports CUDA up to 11.4, CuPy is built for CUDA 12: update it to 525 or newer"),
        (13, 12080, "supports CUDA up to 12.8, CuPy is built for CUDA 13: update it to 580 or newer"),
        (12, 12080, "no CUDA device: cudaErrorNoDevice"),
    ],
)
def test_why_there_is_no_device(cuda, driver, expected):
    assert expected in device._no_device(cuda, driver, "cudaErrorNoDevice")


@pytest.mark.parametrize("capability", ["61", "75", "100"])
def test_a_gpu_that_is_too_old_is_named_with_what_serves_it(capability, monkeypatch):
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 1)
    monkeypatch.setattr(cupy.cuda.runtime, "runtimeGetVersion", lambda: 13000)
    monkeypatch.setattr(cupy.cuda.nvrtc, "getSupportedArchs", lambda: [75, 80, 90, 100])
    monkeypatch.setattr(cupy.cuda, "Device", lambda: SimpleNamespace(compute_capability=capability))
    usable, reason = device.check()
    assert usable == (capability != "61")
    if not usable:
        assert "has compute capability 6.1, NVRTC of CUDA 13 compiles for 7.5 and newer" in reason
        assert install_command("cuda12") in reason
    assert "cuda12" not in device._too_old(12, 37, 50)


def test_a_library_that_does_not_load_is_named_with_what_to_install(monkeypatch):
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda: 1)
    monkeypatch.setattr(cupy.cuda.runtime, "runtimeGetVersion", lambda: 12090)
    monkeypatch.setattr(cupy.cuda, "Device", lambda: SimpleNamespace(compute_capability="75"))
    assert device.check()[0]

    def missing() -> None:
        raise ImportError("libcufft.so.11: cannot open\nmore")

    monkeypatch.setattr(device, "_cufft_version", missing)
    found = device.check()
    assert found == (
        False,
        f"cuFFT does not load, {install_command('cuda12')} brings it: libcufft.so.11: cannot open",
    )


# ---- Copies to a device ----


class Pinned:
    """Memory of a pool that gives out again at once what nobody holds."""

    free: list[np.ndarray] = []  # noqa: RUF012

    def __init__(self, size):
        fitting = [each for each in self.free if len(each) >= size]
        self.memory = fitting[0] if fitting else np.zeros(4096, np.uint8)
        Pinned.free = [each for each in self.free if each is not self.memory]
        self.ptr = self.memory.ctypes.data

    def __del__(self):
        Pinned.free = [*self.free, self.memory]


class SlowCupy:
    """CuPy whose device copies when it comes to it."""

    def __init__(self):
        self.waiting, self.copies = [], 0
        outer = self

        class Event:
            def __init__(self, disable_timing):
                assert disable_timing
                self.done = False

            def record(self):
                outer.waiting.append(lambda: setattr(self, "done", True))

        class Pointer:
            def __init__(self, memory, at=0):
                self.memory, self.at = memory, at

            def __add__(self, count):
                return Pointer(self.memory, self.at + count)

            def copy_from_host_async(self, source, size):
                outer.copies += 1
                outer.waiting.append(lambda: ctypes.memmove(self.memory.ctypes.data, source, size))

        self.cuda = SimpleNamespace(alloc_pinned_memory=self.pinned, Event=Event)
        self.ndarray = lambda shape, dtype, at: np.ndarray(shape, dtype, at.memory, at.at)
        self.empty = lambda shape, _: SimpleNamespace(data=Pointer(np.full(shape, 0xAB, np.uint8)))

    def pinned(self, size):
        # What np.frombuffer takes: before Python 3.12 a class cannot have a buffer of its own.
        held = Pinned(size)
        array = held.memory.view(Buffer)
        array.held, array.ptr = held, held.ptr
        return array

    def run(self):
        while self.waiting:
            self.waiting.pop(0)()


class Buffer(np.ndarray):
    """Bytes that hold the memory of a pool."""


@pytest.fixture
def slow(monkeypatch):
    made = object.__new__(device.CudaDevice)
    made._cupy = SlowCupy()
    monkeypatch.setattr(device, "_in_flight", device._InFlight())
    return made


def test_all_arrays_of_a_call_are_one_copy_that_nobody_waits_for(slow):
    random = np.random.default_rng(0)
    given = [
        (random.random((3, 5))[:, ::2], "f4"),
        (np.arange(7), "i4"),
        (np.empty((0, 4)), "f8"),
        ([[1, 2]], "i8"),
        (random.random(()), "f8"),
        (np.array([True, False]), "u1"),
    ]
    calls = [[(np.asarray(values) + k, kind) for values, kind in given] for k in range(3)]
    made = [slow.put(*call) for call in calls]
    gc.collect()
    assert slow._cupy.copies == 3
    slow._cupy.run()
    for call, arrays in zip(calls, made, strict=True):
        for (values, kind), array in zip(call, arrays, strict=True):
            assert array.dtype == kind
            np.testing.assert_array_equal(array, np.asarray(values).astype(kind))
            assert array.ctypes.data % 8 == 0


def test_pinned_memory_is_let_go_once_it_is_read(slow):
    for number in range(5):
        (array,) = slow.put((np.full(3, number), "i4"))
        assert len(device._in_flight._held) == 1
        slow._cupy.run()
        assert (array == number).all()


def test_nothing_is_copied_of_nothing(slow):
    assert slow.put() == []
    slow.put((np.empty((0, 3)), "f4"))
    assert slow._cupy.copies == 0
