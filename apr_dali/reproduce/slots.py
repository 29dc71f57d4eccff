"""Where runs compute: a GPU each, or a share of the CPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apr_dali.errors import InputError
from apr_dali.runtime import cpus

_SHARED = "LOCAL_WORLD_SIZE"
"""Of how many processes on this machine one is: they share the CPUs, see `apr_dali.runtime.cpus`."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ASK = "import torch; print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else '')"


@dataclass(frozen=True)
class Slot:
    """A place for one run at a time. where: for people. environment: what its commands have beside our own."""

    where: str
    environment: Mapping[str, str]


def slots(gpus: Sequence[str], processes: int | None) -> list[Slot]:
    """Slots on GPUs by their numbers, on so many shares of the CPUs, or without both on the GPU that there is, else on
    the CPUs, one a core.

    Raises:
        InputError: for a GPU that torch does not find: its run would take the CPU.
    """
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        raise InputError("reproduce starts the processes by itself: start it without torchrun")
    if gpus:
        found = [(number, _name_of({_VISIBLE: number})) for number in gpus]
        lost = [number for number, name in found if not name]
        if lost:
            raise InputError(f"--gpus: torch finds no GPU {', '.join(lost)}; see `apr-dali doctor`")
        shared = {_SHARED: str(len(gpus))}
        return [Slot(f"GPU {number}, {name}", {_VISIBLE: number, **shared}) for number, name in found]
    if processes is None and (name := _name_of({})):
        return [Slot(name, {})]
    count = processes or cpus.usable()
    return [Slot(f"the CPU, {n + 1} of {count}", {_VISIBLE: "", _SHARED: str(count)}) for n in range(count)]


def _name_of(environment: dict[str, str]) -> str:
    """The name of the first GPU that a process with this environment finds; "" for none."""
    # In a process of its own: this one must not hold a GPU that a run is to have alone.
    done = subprocess.run(
        [sys.executable, "-c", _ASK], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
