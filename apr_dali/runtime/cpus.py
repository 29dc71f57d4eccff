"""How many CPUs this process may use: what it is bound to, and what its container's quota allows."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path


def usable() -> int:
    """CPUs that this process may use, at least 1: those it is bound to, or fewer where a cgroup's quota says so.

    A quota of one and a half CPUs counts as two.
    """
    # Not every system has affinities: macOS has none.
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = quota()
    return bound if allowed is None else max(1, min(bound, math.ceil(allowed)))


def share() -> int:
    """The usable CPUs, shared out among the processes that torchrun started on this machine; at least 1."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")
    # What torchrun would not write is no news of other processes.
    return max(1, usable() // max(1, int(processes) if processes.isdecimal() else 1))


@cache
def quota(process: Path = Path("/proc/self")) -> float | None:
    """CPUs that the cgroups of a process allow it, in CPU seconds per second; None without a limit."""
    try:
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        # One blank between two fields, of which the source may be empty.
        mounts = [line.split(" ") for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:  # no Linux
        return None
    paths = {kind: path for _, kinds, path in groups for kind in kinds.split(",")}
    limits: list[float] = []
    for mount in mounts:
        root, top = mount[3:5]
        kind, _, options = mount[mount.index("-") + 1 :][:3]
        if kind == "cgroup2":
            limits += _limits(top, root, paths.get("", "/"), _second_version)
        elif kind == "cgroup" and "cpu" in options.split(","):
            limits += _limits(top, root, paths.get("cpu", "/"), _first_version)
    return min(limits, default=None)


def _limits(top: str, root: str, path: str, read: Callable[[Path], tuple[str, str]]) -> Iterator[float]:
    """The limits of the group `path` and of all above it that can be seen: each holds for what is in it.

    top: where the hierarchy is mounted. root: what of it is; a container may see its own part alone, as if it were all.
    """
    inside = path.removeprefix(root) if root != "/" else path
    group = Path(top, *(part for part in inside.split("/") if part not in ("", "..")))
    for folder in (group, *group.parents):
        try:
            used, period = read(folder)
            # "max" and -1 stand for no limit.
            if used != "max" and int(used) > 0:
                yield int(used) / int(period)
        except (OSError, ValueError):  # not there, or another controller's
            pass
        if folder == Path(top):
            return


def _second_version(folder: Path) -> tuple[str, str]:
    used, period = (folder / "cpu.max").read_text().split()
    return used, period


def _first_version(folder: Path) -> tuple[str, str]:
    return (folder / "cpu.cfs_quota_us").read_text().strip(), (folder / "cpu.cfs_period_us").read_text().strip()
