"""Simulated devices in place of a GPU: the sources thread by thread, or what NVRTC makes of them."""

import pytest
from simulators.host_cuda import HostCuda
from simulators.ptx_cuda import PtxCuda

from apr_dali.kernels.cuda import paths
from apr_dali.kernels.cuda.device import Cache


@pytest.fixture
def install(monkeypatch):
    """A function (module, device) that gives the module this device; what ran on it is checked in the end."""
    installed = []

    def put(module, device):
        monkeypatch.setattr(module, "_device", lambda: device)
        for name in ("work", "constants"):
            monkeypatch.setattr(paths, name, Cache(64))
        installed.append(device)
        return device

    yield put
    for device in installed:
        device.check()


@pytest.fixture(params=["threads", "compiled"])
def simulated(request, shim_folder):
    if request.param == "compiled":
        pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA builds")
    return HostCuda(shim_folder) if request.param == "threads" else PtxCuda()
