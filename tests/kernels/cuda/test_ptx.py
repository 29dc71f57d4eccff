"""What NVRTC makes of the CUDA kernels, run on the CPU: that it is right, and how it goes about memory."""

import numpy as np
import pytest
from helpers import tolerances
from helpers.tolerances import relative
from simulators.ptx_cuda import PtxCuda

from apr_dali import spectral
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.kernels.cuda import launch, paths
from apr_dali.kernels.cuda.device import Cache
from apr_dali.kernels.protocol import PairTask

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with torch's CUDA builds")
pytestmark = pytest.mark.simulator

SCALES = (np.array([1, 2, 3]) / 255, np.array([0.1, 0.2, -0.3]), np.array([2, 1, 0.5]), np.array([0.5, 0, 1]))


@pytest.fixture
def device(monkeypatch):
    device = PtxCuda()
    monkeypatch.setattr(cupy_backend, "_device", lambda: device)
    for name in ("work", "constants"):
        monkeypatch.setattr(paths, name, Cache(64))
    yield device
    device.check()


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(size, marks=pytest.mark.slow if size > 64 else ())
        for size in (*launch.WHOLE_SIZES, *launch.FUSED_SIZES)
    ],
)
def test_pair_is_the_reference_at_all_sizes(size, axes, crops):
    images, partner = crops(2, size, size, seed=3), np.array([1, 0])
    for given in (images, np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)):
        got = cupy_backend.pair(PairTask(given, partner, True, *SCALES, axes=axes, with_clean=True))
        assert relative(got[:, 1], spectral.pair(images, partner, True, *SCALES, axes)) < tolerances.RECOMBINE_FLOAT32
        assert relative(got[:, 0], spectral.pair(images, partner, False, *SCALES, axes)) < 1e-6


# ---- Speed, as far as it can be counted ----


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", [pytest.param(size, marks=pytest.mark.slow) for size in (160, 192, 256)] + [224])
def test_threads_meet_in_no_bank_and_columns_read_whole_sectors(size, axes, device, crops, record_property):
    images, partner = crops(2, size, size), np.array([1, 0])
    got = cupy_backend.pair(PairTask(images, partner, True, *SCALES, "float16", axes))
    expected = spectral.pair(images, partner, True, *SCALES, axes)
    assert relative(got, expected) < tolerances.HALF_PRECISION["float16"]
    assert set(device.traces) == {"rows_forward", "columns", "rows_back"}
    for trace in device.traces.values():
        # The compiler takes a pair apart here and there; threads that met in a bank would double it.
        assert 0 < trace.least.sum() <= trace.passes.sum() < 1.5 * trace.least.sum()
    columns = device.traces["columns"]
    assert columns.sectors.sum() > 3 * 2 * launch.strips(size, axes == "chw") * size
    assert columns.sectors.sum() < 1.5 * columns.filled.sum()
    # For the benchmarks' share of what a device can issue; it is the compiler's, so nothing is asserted of it.
    for kernel, trace in device.traces.items():
        record_property(f"{kernel}: warp instructions per image", round(trace.issued.sum() / len(images)))
