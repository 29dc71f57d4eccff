"""The choice of the backend that runs an operator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from apr_dali.errors import InputError, check_choice, check_whole
from apr_dali.kernels.protocol import Backend

# Fastest first. `reference` is left out of auto: float64 for tests, far too slow to be taken unasked.
_BY_DEVICE = {"cpu": ("native", "torch"), "cuda": ("cupy", "torch")}
BACKENDS = ("reference", "native", "torch", "cupy")


@dataclass(frozen=True)
class Availability:
    """Whether a backend can run here; `reason` says why not, or which version it is."""

    available: bool
    reason: str


def load(name: str, threads: int | None = None) -> Backend:
    """Backend `name`, one of BACKENDS. threads: of the native one; None takes every CPU that this process may use.

    Raises ImportError where a library that it needs is not installed.
    """
    check_choice("backend", name, BACKENDS)
    if name == "native":
        from apr_dali.kernels.cpu.backend import Native

        return Native(threads)
    if name == "cupy":
        from apr_dali.kernels.cuda import backend as cupy_backend

        return cupy_backend
    if name == "torch":
        from apr_dali.kernels import torch_backend

        return torch_backend
    from apr_dali.kernels import reference

    return reference


@cache
def availability(name: str) -> Availability:
    """Whether backend `name`, one of BACKENDS, can run in this environment."""
    try:
        return Availability(*load(name).check())
    except ImportError as error:
        return Availability(False, f"{error}")


def check_backend(name: str, threads: int | None = None) -> None:
    """Raise InputError for a backend that there is not, and for threads that it would not follow."""
    check_choice("backend", name, ("auto", *BACKENDS))
    if threads is not None and name not in ("auto", "native"):
        raise InputError(f"threads is for the native backend, got backend={name!r}; see torch.set_num_threads")
    if threads is not None:
        check_whole("threads", threads, 1)


def choose(name: str, device: str, threads: int | None = None) -> str:
    """The backend to run on `device` ("cpu" or "cuda") for the choice `name`, "auto" or one of BACKENDS."""
    check_backend(name, threads)
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
