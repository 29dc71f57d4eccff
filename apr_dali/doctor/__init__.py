"""`apr-dali doctor`: what is installed, what can run here, and what to do about the rest.

`gather` looks at the environment and judges nothing; `problems` and `report` judge `Facts` and look at nothing, so
that any environment can be tried in a test.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import platform
import re
import textwrap
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from apr_dali import __version__
from apr_dali.errors import InputError, first_line, install_command
from apr_dali.kernels.cpu import backend as native_backend
from apr_dali.kernels.dispatch import BACKENDS, Availability, availability
from apr_dali.runtime import cpus

_MODULES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "DALI": "nvidia.dali",
    "CuPy": "cupy",
    "NumPy": "numpy",
    "timm": "timm",
}
_CUDA_BUILD = re.compile(r"(nvidia-dali|cupy)\b.*cuda(\d\d)")
_TITLE_OF_BUILD = {"nvidia-dali": "DALI", "cupy": "CuPy"}
_STACKS = (12, 13)
# The extras that a person installs to work with; those of the tests are not judged.
_EXTRAS = ("", *(f"cuda{stack}" for stack in _STACKS), "eval")
_OLDEST_DRIVER = {12: 525, 13: 580}
_WIDTH = 80
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

    versions: of the packages that load, by the keys of _MODULES. broken: why others do not, though installed.
    builds: the installed distributions that are built for one CUDA, such as "cupy-cuda12x".
    ages: of the installed distributions that this package asks for, by their names.
    torch_cuda: the CUDA that torch is built for, such as "12.8"; None for a CPU build.
    torch_gpu: whether torch can use a GPU, else its words on why not.
    pipeline: whether a DALI pipeline runs on the CPU.
    stale: whether the native operators are there, and refused because they were compiled from other sources.
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


@dataclass(frozen=True)
class Problem:
    """What is wrong, and the commands that repair it."""

    what: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """ok: whether training can run at all, on the CPU at least. text: all of it, for 80 columns."""

    ok: bool
    problems: tuple[Problem, ...]
    text: str


def report(facts: Facts | None = None) -> Report:
    """Judge `facts`, or the present environment."""
    if facts is None:
        facts = gather()
    found = problems(facts)
    return Report(can_train(facts), found, _text(facts, found))


def can_train(facts: Facts) -> bool:
    """Whether the main job can run: a DALI pipeline on the CPU with the torch backend."""
    torch = facts.backends.get("torch")
    return facts.pipeline.available and torch is not None and torch.available and not facts.stale


def gather() -> Facts:
    """Look at the present environment. Raises nothing, whatever is missing or broken in it."""
    versions, broken = {}, {}
    for title, module in _MODULES.items():
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
    )


def cuda_of(facts: Facts) -> dict[str, int]:
    """The major version of CUDA that torch, DALI and CuPy are built for, of those installed."""
    found = {} if facts.torch_cuda is None else {"torch": int(facts.torch_cuda.partition(".")[0])}
    for build in facts.builds:
        title, major = _build(build)
        found[title] = major
    return found


def stack_for(facts: Facts) -> int:
    """The CUDA, 12 or 13, of the packages to install here.

    CUDA 12 where the driver knows no newer; else what torch is built for already, else what the others are.
    """
    if facts.driver.cuda is not None and facts.driver.cuda[0] < 13:
        return 12
    # torch comes first in cuda_of: it is the largest and the hardest to replace.
    return next((major for major in cuda_of(facts).values() if major in _STACKS), 12)


def problems(facts: Facts) -> tuple[Problem, ...]:
    """What is wrong with an environment, the worst first."""
    return (
        *_not_loading(facts),
        *_too_old(facts),
        *_not_running(facts),
        *_mixed(facts),
        *_no_gpu(facts),
    )


def _not_loading(facts: Facts) -> list[Problem]:
    found = [
        Problem(f"{title} is installed but does not load: {reason}", _install(facts))
        for title, reason in facts.broken.items()
    ]
    missing = [title for title in ("torch", "torchvision", "DALI") if not _installed(facts, title)]
    if missing:
        found.append(Problem(f"{', '.join(missing)} not installed", _install(facts)))
    if facts.driver.gpus and not _installed(facts, "CuPy"):
        found.append(Problem("CuPy is not installed: the GPU kernels need it", _install(facts)))
    return found


def _too_old(facts: Facts) -> list[Problem]:
    old = {name: age for name, age in facts.ages.items() if Version(age.installed) < Version(age.oldest)}
    if not old:
        return []
    listed = ", ".join(f"{name} {age.installed} (at least {age.oldest})" for name, age in old.items())
    extras = [f"cuda{stack_for(facts)}", *sorted({age.extra for age in old.values() if age.extra == "eval"})]
    return [Problem(f"too old: {listed}", (install_command(",".join(extras)),))]


def _not_running(facts: Facts) -> list[Problem]:
    found = []
    if facts.stale:
        what = "the native operators were compiled from other sources than those beside them, and are refused"
        found.append(Problem(what, (native_backend.REBUILD,)))
    if "DALI" in facts.versions and not facts.pipeline.available:
        found.append(Problem(f"DALI cannot run a pipeline on the CPU: {facts.pipeline.reason}", _install(facts)))
    torch = facts.backends.get("torch")
    if "torch" in facts.versions and torch is not None and not torch.available:
        found.append(Problem(f"the torch backend cannot run: {torch.reason}", _install(facts)))
    cupy = facts.backends.get("cupy")
    if facts.torch_gpu.available and "CuPy" in facts.versions and cupy is not None and not cupy.available:
        what = f"the GPU kernels cannot run, plain torch serves in their place: {cupy.reason}"
        found.append(Problem(what, _install(facts)))
    return found


def _mixed(facts: Facts) -> list[Problem]:
    found = []
    for title in _TITLE_OF_BUILD.values():
        several = [build for build in facts.builds if _build(build)[0] == title]
        if len(several) > 1:
            # One overwrites the files of the other, and removing one breaks the other: both have to go.
            commands = (f"pip uninstall -y {' '.join(several)}", _install(facts)[-1])
            found.append(Problem(f"several builds of {title} are installed: {', '.join(several)}", commands))
    majors = cuda_of(facts)
    if len(set(majors.values())) > 1:
        listed = ", ".join(f"{title} for CUDA {major}" for title, major in majors.items())
        found.append(Problem(f"mixed CUDA stack: {listed}. They load each other's libraries and fail", _install(facts)))
    return found


def _no_gpu(facts: Facts) -> list[Problem]:
    driver, torch = facts.driver, cuda_of(facts).get("torch")
    if driver.cuda is None or "torch" not in facts.versions:
        return []
    upto = f"driver {driver.version} supports CUDA up to {driver.cuda[0]}.{driver.cuda[1]}"
    if driver.cuda[0] < min(_STACKS):
        return [Problem(f"{upto}: update it to {_OLDEST_DRIVER[12]} or newer")]
    if torch is not None and driver.cuda[0] < torch:
        newer = f", or update the driver to {_OLDEST_DRIVER[torch]} or newer" if torch in _OLDEST_DRIVER else ""
        return [
            Problem(f"{upto}, torch is built for {facts.torch_cuda}: install the other build{newer}", _install(facts))
        ]
    if not driver.gpus or facts.torch_gpu.available:
        return []
    if torch is None:
        # pip takes +cpu for the same version and leaves it.
        commands = ("pip uninstall -y torch torchvision", _install(facts)[-1])
        return [Problem(f"torch {facts.versions['torch']} is a CPU build, and there is a GPU", commands)]
    return [Problem(f"torch does not see the GPU: {facts.torch_gpu.reason}")]


def _install(facts: Facts) -> tuple[str, ...]:
    """The commands that make the environment one stack."""
    stack = stack_for(facts)
    others = [build for build in facts.builds if _build(build)[1] != stack]
    remove = (f"pip uninstall -y {' '.join(others)}",) if others else ()
    return (*remove, install_command(f"cuda{stack}"))


def _installed(facts: Facts, title: str) -> bool:
    return title in facts.versions or title in facts.broken


def _build(distribution: str) -> tuple[str, int]:
    found = _CUDA_BUILD.match(distribution)
    assert found is not None, distribution
    return _TITLE_OF_BUILD[found[1]], int(found[2])


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
        return isinstance(error, InputError)
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


def _text(facts: Facts, found: tuple[Problem, ...]) -> str:
    lines = [f"apr_dali {__version__}, Python {facts.python}, {facts.cpus} CPU threads", "", "Packages"]
    lines += [_package(facts, title) for title in _MODULES]
    lines += ["", "Backends"]
    for name, backend in facts.backends.items():
        lines += _row(name, "yes" if backend.available else "no", backend.reason)
    lines += ["", "GPU", *_gpu_lines(facts), "", "Training"]
    trains = can_train(facts)
    lines += _row("on the CPU", "yes" if trains else "no", "" if trains else "see below")
    gpu = trains and bool(facts.driver.gpus) and facts.torch_gpu.available
    lines += _row("on the GPU", "yes" if gpu else "no", "" if gpu else facts.driver.reason or "see below")
    if found:
        lines += ["", "What to do"]
    for problem in found:
        lines += textwrap.wrap(problem.what, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
        lines += [f"      {command}" for command in problem.commands]
    return "\n".join(line.rstrip() for line in lines)


def _package(facts: Facts, title: str) -> str:
    state = "does not load" if title in facts.broken else facts.versions.get(title, "not installed")
    builds = [build for build in facts.builds if _build(build)[0] == title]
    cuda = f"CUDA {facts.torch_cuda}" if title == "torch" and facts.torch_cuda else ", ".join(builds)
    return f"  {title:<13}{state:<17}{cuda}"


def _row(title: str, state: str, reason: str) -> list[str]:
    start = f"  {title:<13}{state:<5}"
    return textwrap.wrap(reason, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start)) or [start]


def _gpu_lines(facts: Facts) -> list[str]:
    driver = facts.driver
    if driver.cuda is None:
        return textwrap.wrap(driver.reason, _WIDTH, initial_indent="  none: ", subsequent_indent="  ")
    lines = [f"  {index}: {name}" for index, name in enumerate(driver.gpus)] or [f"  none: {driver.reason}"]
    return [*lines, f"  driver {driver.version}, CUDA up to {driver.cuda[0]}.{driver.cuda[1]}"]
