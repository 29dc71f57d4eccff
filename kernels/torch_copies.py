"""Host arrays on the device of a tensor, in torch, without waiting for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def put(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A NumPy array or a tensor as a tensor on a device, of `dtype` or its own; no copy where none is needed.

    From memory that is not pinned the host would wait for the copy, and for all that the device does before it.
    """
    tensor = torch.as_tensor(values, dtype=dtype)
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
