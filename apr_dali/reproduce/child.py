"""A command as a process of its own, its output in a file, and how several of them are stopped."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from apr_dali.runtime.best_effort import say

_PROGRAMS = {"python": (sys.executable,), "apr-dali": (sys.executable, "-m", "apr_dali")}
_SAVING = 300.0
"""Seconds that commands which are asked to stop have to save."""
_LAST_LINES = 12
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Signals:
    """While entered, SIGINT and SIGTERM are only counted: `signum` is the first one."""

    def __init__(self) -> None:
        self.count = self.signum = 0
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._former = {signum: signal.signal(signum, self._handle) for signum in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self.count += 1
        self.signum = self.signum or signum


class Child:
    """A command that has been started. words: it begins with one of _PROGRAMS. environment: beside our own. log: the
    file that its output is added to."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        with open(log, "ab") as file:
            file.write(f"$ {shlex.join(words)}\n".encode())
            file.flush()
            self._process = subprocess.Popen(
                [*_PROGRAMS[words[0]], *words[1:]],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C in the terminal does not reach it by itself: a second one would end it before it has saved.
                start_new_session=True,
                preexec_fn=_ending_with(os.getpid()),  # noqa: PLW1509 - it is loaded before, and calls the system alone
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def signal(self, signum: int) -> None:
        """Send a signal to the command and its processes."""
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(self._process.pid, signum)

    def last_lines(self) -> tuple[str, ...]:
        """The end of its output."""
        # The log may have earlier starts, too: each begins with its command.
        _, _, text = f"\n{self.log.read_text(errors='replace')}".rpartition("\n$ ")
        lines = [line for line in text.splitlines()[1:] if line.strip()]
        return tuple(lines[-_LAST_LINES:])


def _ending_with(parent: int) -> Callable[[], None]:
    """What asks a new process to save and to end when `parent` is killed: else it would go on, and keep its folder."""
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended in the meantime
            os._exit(1)

    return ask


def stop(children: Sequence[Child], signals: Signals) -> None:
    """Ask the children to save and to end; after _SAVING, or a second signal, end them."""
    running = [child for child in children if child.running]
    if running:
        say(f"stopping: {len(running)} commands save what they have; Ctrl-C once more ends them")
    for child in running:
        child.signal(signal.SIGTERM)
    end = time.monotonic() + _SAVING
    while any(child.running for child in running) and signals.count < 2 and time.monotonic() < end:
        time.sleep(0.1)
    for child in running:
        if child.running:
            child.signal(signal.SIGKILL)
