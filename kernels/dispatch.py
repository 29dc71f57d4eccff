"""The choice of the backend that runs an operator."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np

from apr_dali import pillow_ops, spectral
from apr_dali.errors import check_whole

# Fastest first. `reference` is left out of auto: float64 for tests, far too slow to be taken unasked.
_BY_DEVICE = {"cpu": ("native", "torch"), "cuda": ("cupy", "torch")}
BACKENDS = ("reference", "native", "torch", "cupy")
_MODULES = {"native": "cpu.backend", "torch": "torch_backend", "cupy": "cuda.backend"}


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here; `reason` says why not, or which version it is."""

    available: bool
    reason: str


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"apr_dali.kernels.{_MODULES[name]}")


@cache
def availability(name: str) -> Availability:
    """Whether backend `name`, one of BACKENDS, can run in this environment."""
    if name not in BACKENDS:
        raise ValueError(f"backend must be auto or one of {', '.join(BACKENDS)}, got {name!r}")
    if name == "reference":
        return Availability(True, f"NumPy {np.__version__}, float64, for tests")
    try:
        return Availability(*_module(name).check())
    except ImportError as error:
        return Availability(False, f"{error}")


def choose(name: str, device: str) -> str:
    """The backend to run on `device` ("cpu" or "cuda") for the choice `name`."""
    if name != "auto":
        found = availability(name)
        if not found.available:
            raise RuntimeError(f"backend {name!r} cannot run here: {found.reason}")
        if name not in (*_BY_DEVICE[device], "reference"):
            raise ValueError(f"backend {name!r} does not work on {device} arrays")
        return name
    for candidate in _BY_DEVICE[device]:
        if availability(candidate).available:
            return candidate
    reasons = "; ".join(f"{c}: {availability(c).reason}" for c in _BY_DEVICE[device])
    raise RuntimeError(f"no backend can run on {device}: {reasons}. See `apr-dali doctor`")


def load_operator(name: str, chosen: str, backend: str, threads: int | None) -> Callable[..., Any]:
    """Function `name` of the backend that was chosen, with the number of threads if that is its to say."""
    if chosen == "reference":
        functions: dict[str, Callable[..., Any]] = {"recombine": spectral.recombine, "single": pillow_ops.single}
        return functions[name]
    run = getattr(_module(chosen), name)
    if chosen == "native":
        if threads is not None:
            check_whole("threads", threads, 1)
        return partial(run, threads=threads)
    if threads is not None and backend != "auto":
        raise ValueError(f"threads is for the native backend, got backend={backend!r}; see torch.set_num_threads")
    return run
