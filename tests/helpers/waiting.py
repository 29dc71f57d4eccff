"""Waiting for what threads and other processes do: for the event itself, however long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from helpers.forked import PATIENCE


def until(happened: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Return once `happened` is true. After PATIENCE the test fails with what `told` gives."""
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, told()
        time.sleep(0.01)


def ended(pid: int) -> bool:
    """Whether a process is gone, or has ended and its parent, which may be nobody in a container, not noted it yet."""
    return _state_and_group(pid)[0] in "ZX"


def group_ended(number: int) -> bool:
    """Whether that is so for every process of a group."""
    running = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    return all(group != number or state in "ZX" for state, group in map(_state_and_group, running))


def _state_and_group(pid: int) -> tuple[str, int]:
    """As proc(5) has them; X, for dead, where there is no such process."""
    try:
        state, _, group, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it went before the file was opened, or was read
        return "X", -1
    return state, int(group)
