"""Host arrays on the device of a tensor."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apr_dali.kernels import torch_copies  # noqa: E402
from apr_dali.kernels.torch_copies import put  # noqa: E402


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_on_the_cpu_it_is_the_array(dtype):
    values = np.arange(6.0).reshape(2, 3)
    got = put(values, torch.device("cpu"), dtype)
    assert got.dtype == (dtype or torch.float64)
    np.testing.assert_array_equal(got.numpy(), values)
    tensor = torch.arange(3)
    assert put(tensor, torch.device("cpu")) is tensor


@pytest.mark.parametrize("on_device", [True, False])
def test_only_pinned_memory_is_copied_to_a_device(on_device, monkeypatch):
    device, steps = torch.device("cuda", 1), []

    class Held:
        is_cuda = on_device

        def pin_memory(self):
            steps.append("pinned")
            return self

        def to(self, *given, **options):
            steps.append((*given, options))
            return self

    held = Held()
    monkeypatch.setattr(torch_copies, "torch", SimpleNamespace(as_tensor=lambda *_, **__: held))
    assert put(np.zeros(3), device) is held
    assert steps == ([(device, {})] if on_device else ["pinned", (device, {"non_blocking": True})])
