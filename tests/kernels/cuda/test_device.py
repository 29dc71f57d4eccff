"""Why the GPU backend cannot run, in words that say what to do about it."""

from types import SimpleNamespace

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
