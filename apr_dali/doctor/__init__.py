"""`apr-dali doctor`: what is installed, what can run here, and what to do about the rest.

`facts.gather` looks at the environment and judges nothing; `problems` and `report` judge `Facts` and look at nothing,
so that any environment can be tried in a test.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from packaging.version import Version

from apr_dali import __version__
from apr_dali.doctor.facts import MODULES, STACKS, TITLE_OF_BUILD, Facts, build_of, gather
from apr_dali.errors import install_command
from apr_dali.kernels.cpu import backend as native_backend

_OLDEST_DRIVER = {12: 525, 13: 580}
_WIDTH = 80
_LINUX = "Linux, or WSL 2 on Windows"


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


def cuda_of(facts: Facts) -> dict[str, int]:
    """The major version of CUDA that torch, DALI and CuPy are built for, of those installed."""
    found = {} if facts.torch_cuda is None else {"torch": int(facts.torch_cuda.partition(".")[0])}
    for build in facts.builds:
        title, major = build_of(build)
        found[title] = major
    return found


def stack_for(facts: Facts) -> int:
    """The CUDA, 12 or 13, of the packages to install here.

    CUDA 12 where the driver knows no newer; else what torch is built for already, else what the others are.
    """
    if facts.driver.cuda is not None and facts.driver.cuda[0] < 13:
        return 12
    # torch comes first in cuda_of: it is the largest and the hardest to replace.
    return next((major for major in cuda_of(facts).values() if major in STACKS), 12)


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
    if "DALI" in missing and facts.system != "Linux":
        what = f"DALI has packages for Linux alone, and this is {facts.system}: use {_LINUX}. Here the functions and "
        found.append(Problem(what + "the torchvision transforms run, with", ("pip install torch torchvision",)))
    elif missing:
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
    for title in TITLE_OF_BUILD.values():
        several = [build for build in facts.builds if build_of(build)[0] == title]
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
    if driver.cuda[0] < min(STACKS):
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
    others = [build for build in facts.builds if build_of(build)[1] != stack]
    remove = (f"pip uninstall -y {' '.join(others)}",) if others else ()
    return (*remove, install_command(f"cuda{stack}"))


def _installed(facts: Facts, title: str) -> bool:
    return title in facts.versions or title in facts.broken


def _text(facts: Facts, found: tuple[Problem, ...]) -> str:
    lines = [f"apr_dali {__version__}, Python {facts.python}, {facts.cpus} CPU threads", "", "Packages"]
    lines += [_package(facts, title) for title in MODULES]
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
    builds = [build for build in facts.builds if build_of(build)[0] == title]
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
