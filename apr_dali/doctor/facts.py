"""The environment as it is: what is installed, what loads and what runs. Nothing is judged here."""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from apr_dali.errors import first_line
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.dispatch import BACKENDS, Availability, availability
from apr_dali.runtime import cpus

MODULES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "DALI": "nvidia.dali",
    "CuPy": "cupy",
    "NumPy": "numpy",
    "timm": "timm",
}
_CUDA_BUILD = re.compile(r"(nvidia-dali|cupy)\b.*cuda(\d\d)")
TITLE_OF_BUILD = {"nvidia-dali": "DALI", "cupy": "CuPy"}
STACKS = (12, 13)
# The extras that a person installs to work with; those of the tests are not judged.
_EXTRAS = ("", *(f"cuda{stack}" for stack in STACKS), "eval")
_UNKNOWN = Availability(False, "")


@dataclass(frozen=True)
class Driver:
    """The NVIDIA driver. cuda: the newest (major, minor) it supports. gpus: names. Without a driver: `reason`."""

    version: str = ""
    cuda: tuple[int, int] | None = None
    gpus: tuple[str, ...] = ()
    reason: str = "no NVIDIA driver"


@dataclass(frozen=True)
class Age:
    """The version of an installed distribution, the oldest one that works, and the extra that asks for it, or ""."""

    installed: str
    oldest: str
    extra: str = ""


@dataclass(frozen=True)
class Facts:
    """An environment.

    versions: of the packages that load, by the keys of MODULES. broken: why others do not, though installed.
    builds: the installed distributions that are built for one CUDA, such as "cupy-cuda12x".
    ages: of the installed distributions that this package asks for, by their names.
    torch_cuda: the CUDA that torch is built for, such as "12.8"; None for a CPU build.
    torch_gpu: whether torch can use a GPU, else its words on why not.
    pipeline: whether a DALI pipeline runs on the CPU.
    stale: whether the native operators are there, and refused because they were compiled from other sources.
    system: "Linux", "Windows" or "Darwin", as Python's platform module names it.
    """

    python: str
    cpus: int
    versions: Mapping[str, str]
    broken: Mapping[str, str] = field(default_factory=dict)
    builds: tuple[str, ...] = ()
    ages: Mapping[str, Age] = field(default_factory=dict)
    torch_cuda: str | None = None
    torch_gpu: Availability = _UNKNOWN
    backends: Mapping[str, Availability] = field(default_factory=dict)
    pipeline: Availability = _UNKNOWN
    driver: Driver = Driver()
    stale: bool = False
    system: str = "Linux"


def gather() -> Facts:
    """Look at the present environment. Raises nothing, whatever is missing or broken in it."""
    versions, broken = {}, {}
    for title, module in MODULES.items():
        try:
            versions[title] = _load(module).__version__
        except ModuleNotFoundError as error:
            # The package itself is not installed, unless it is another module that it wants.
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                broken[title] = first_line(error)
        except Exception as error:  # noqa: BLE001 - a broken library can raise anything as it loads
            broken[title] = first_line(error)
    return Facts(
        python=platform.python_version(),
        cpus=cpus.usable(),
        versions=versions,
        broken=broken,
        builds=_builds(),
        ages=_ages(),
        torch_cuda=importlib.import_module("torch").version.cuda if "torch" in versions else None,
        torch_gpu=_torch_gpu() if "torch" in versions else Availability(False, "torch does not load"),
        backends={name: _backend(name) for name in BACKENDS},
        pipeline=_pipeline() if "DALI" in versions else Availability(False, "DALI does not load"),
        driver=_driver(),
        stale=_stale(),
        system=platform.system(),
    )


def build_of(distribution: str) -> tuple[str, int]:
    """The package and the CUDA of one of `Facts.builds`: ("CuPy", 12) of "cupy-cuda12x"."""
    found = _CUDA_BUILD.match(distribution)
    assert found is not None, distribution
    return TITLE_OF_BUILD[found[1]], int(found[2])


def _builds() -> tuple[str, ...]:
    names = {(distribution.metadata["Name"] or "").lower() for distribution in metadata.distributions()}
    return tuple(sorted(name for name in names if _CUDA_BUILD.match(name)))


def _ages() -> dict[str, Age]:
    """By the requirements that this package was installed with; none where it is not installed."""
    try:
        texts = metadata.requires("apr_dali") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, Age] = {}
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        extra = next((name for name in _EXTRAS if marker is None or marker.evaluate({"extra": name})), None)
        oldest = next((each.version for each in requirement.specifier if each.operator == ">="), None)
        with suppress(metadata.PackageNotFoundError, InvalidVersion):
            installed = metadata.version(requirement.name)
            # The first to ask is that of the older stack.
            if extra is not None and oldest is not None and Version(installed):
                found.setdefault(requirement.name, Age(installed, oldest, extra))
    return found


def _load(module: str) -> Any:
    with warnings.catch_warnings():
        # CuPy warns of two builds, torch of old drivers: both come up as problems.
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def _backend(name: str) -> Availability:
    try:
        return availability(name)
    except Exception as error:  # noqa: BLE001 - see gather
        return Availability(False, first_line(error))


def _stale() -> bool:
    try:
        native_backend.check()
    except Exception as error:  # noqa: BLE001 - see gather
        return isinstance(error, native_backend.OtherSourcesError)
    return False


def _torch_gpu() -> Availability:
    torch = importlib.import_module("torch")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    reason = "; ".join(first_line(Exception(warning.message)) for warning in caught)
    if not available and not reason:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        reason = f"torch.cuda.is_available() is False, CUDA_VISIBLE_DEVICES is {visible!r}"
    return Availability(available, reason)


def _pipeline() -> Availability:
    """Run a pipeline of one Python function, the operator that APR is built on."""
    try:
        from nvidia.dali import Pipeline, fn

        pipeline = Pipeline(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
        with pipeline:
            pipeline.set_outputs(fn.python_function(fn.random.uniform(shape=2), function=lambda x: x * 0 + 3))
        pipeline.build()
        value = float(pipeline.run()[0].at(0)[0])
    except Exception as error:  # noqa: BLE001 - see gather
        return Availability(False, first_line(error))
    return Availability(value == 3, "" if value == 3 else f"expected 3 from the trial pipeline, got {value}")


def _driver() -> Driver:
    """Ask the driver's own library: torch and CuPy may be missing, or too new to answer."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return Driver()
    status = nvml.nvmlInit_v2()
    if status != 0:
        nvml.nvmlErrorString.restype = ctypes.c_char_p
        return Driver(reason=f"the NVIDIA driver does not answer: {nvml.nvmlErrorString(status).decode()}")
    version, cuda, count = ctypes.create_string_buffer(96), ctypes.c_int(), ctypes.c_uint()
    nvml.nvmlSystemGetDriverVersion(version, 96)
    nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    names = []
    for index in range(count.value):
        device, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
        nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
        nvml.nvmlDeviceGetName(device, name, 96)
        names.append(name.value.decode())
    nvml.nvmlShutdown()
    newest = (cuda.value // 1000, cuda.value % 1000 // 10)
    return Driver(version.value.decode(), newest, tuple(names), reason="" if names else "the driver finds no GPU")
