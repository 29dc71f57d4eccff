"""What the tests of the benchmark's processes run in them. A module of its own: it must be quick to import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from helpers.waiting import until

from apr_dali.bench import processes
from apr_dali.errors import InputError


def cost(seconds: float) -> tuple[float, float, float]:
    """CPU seconds while a child works for some: of this process, of both while the child lives, and after its end."""
    own, before = time.process_time(), processes.cpu_seconds()
    burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    living, mine = 0.0, 0.0

    def enough() -> bool:
        nonlocal living, mine
        living, mine = processes.cpu_seconds() - before, time.process_time() - own
        return living - mine >= seconds

    until(enough)
    burner.kill()
    burner.wait()
    return mine, living, processes.cpu_seconds() - before


def fail(kind: str) -> None:
    """End in one of several bad ways."""
    if kind == "input":
        raise InputError("no such thing")
    if kind == "other":
        raise ZeroDivisionError("by nothing")
    os._exit(7)


def locks_of_bars() -> bool:
    """Whether a progress bar here makes semaphores of the system."""
    from tqdm.std import TqdmDefaultWriteLock, tqdm

    return isinstance(tqdm.get_lock(), TqdmDefaultWriteLock)


def leave_a_child(path: str, wait: float) -> int:
    """Start a child that stays, write both numbers to `path`, and give the child's after a while."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(path).write_text(f"{os.getpid()} {child.pid}\n")
    time.sleep(wait)
    return child.pid
