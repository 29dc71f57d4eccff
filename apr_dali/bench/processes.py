"""A measurement in a process of its own, and what that process and its workers cost.

The processes are forked from a server that has imported the heavy libraries and done nothing else: each begins
afresh, without the seconds that the imports take. Each leads a process group, which ends with it.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from apr_dali.errors import InputError

_PRELOAD = ["apr_dali.bench.checks", "apr_dali.bench.measure"]
"""What the server imports: all that a measurement needs. None of it touches a GPU when it is imported."""


def in_own_process(function: Callable[..., Any], *given: Any) -> Any:
    """function(*given) computed in a process of its own, which is gone with all its children when this returns.

    function, given and the result must be picklable.

    Raises:
        InputError: as the function raised it. RuntimeError: for anything else that it raised, with its traceback.
    """
    context = multiprocessing.get_context("forkserver")
    _start_server()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, given))
    process.start()
    try:
        theirs.close()
        kind, answer = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process of {function.__name__} died with exit code {process.exitcode}") from None
    finally:
        _end(process)
    if kind == "InputError":
        raise InputError(answer)
    if kind == "error":
        raise RuntimeError(f"in the process of {function.__name__}:\n{answer}")
    return answer


def _start_server() -> None:
    """Start the server that the processes are forked from, unless it runs."""
    forkserver.set_forkserver_preload(_PRELOAD)
    # Ctrl-C is for this process alone, which ends the others: they inherit that it is nothing to them.
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, former)


def _answer(pipe: Connection, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    from tqdm import tqdm

    os.setpgid(0, 0)  # with its workers to come, so that they can be ended together
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which would outlive this process
    try:
        pipe.send(("result", function(*given)))
    except InputError as error:
        pipe.send(("InputError", str(error)))
    except Exception:  # noqa: BLE001 - passed to the process that waits for the answer
        pipe.send(("error", traceback.format_exc()))


def _end(process: Any) -> None:
    """End the process and its workers at once: they have answered, or nobody waits for them."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()  # it has no group yet
    process.join()


def cpu_seconds() -> float:
    """User and system time of this process and of its workers, living or ended."""
    living = 0.0
    for pid in _children():
        with suppress(OSError):  # it has been waited for in the meantime, and counts as ended
            living += time.clock_gettime(_cpu_clock(pid))
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + living + ended.ru_utime + ended.ru_stime


def _cpu_clock(pid: int) -> int:
    # What clock_getcpuclockid(3) gives: /proc counts in hundredths of a second, this clock in nanoseconds.
    return (~pid << 3) | 2


def peak_mib() -> float:
    """Sum of the peak resident sizes; pages that workers share with their parent count for each of them."""
    status = "".join(_told(Path(f"/proc/{pid}/status")) for pid in (os.getpid(), *_children()))
    # One that has ended, and that nobody has waited for, has none.
    return sum(map(int, re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE))) / 1024


def _children() -> list[int]:
    tasks = Path("/proc/self/task").iterdir()
    return [int(child) for task in tasks for child in _told(task / "children").split()]


def _told(path: Path) -> str:
    """What a file of /proc says; nothing once its process or thread has ended."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
