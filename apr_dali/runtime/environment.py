"""What a record of results says of the machine and the packages that made them."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import torch

from apr_dali.runtime.distributed import Group

_PACKAGES = (
    *("apr_dali", "numpy", "pillow", "torch", "torchvision", "timm"),
    *("nvidia-dali-cuda120", "nvidia-dali-cuda130", "cupy-cuda12x", "cupy-cuda13x"),
)


def environment(group: Group) -> dict[str, Any]:
    """What a record of results says of the machine: the processes, the device, the versions of the packages."""
    gpu = torch.cuda.get_device_name(group.device) if group.device.type == "cuda" else None
    return {
        "processes": group.world,
        "device": gpu or f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on, of those installed."""
    return {"python": platform.python_version(), **{p: v for p in _PACKAGES if (v := _version(p))}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
