"""SIGTERM and Ctrl-C as a request to save and stop, instead of an end in the middle of a step."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")


class Interrupted(Exception):  # noqa: N818 - it reports a wish, not an error
    """Raised at a point from which the run can continue. `signum` is the signal that asked for it."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


class Interrupts:
    """While entered, the first SIGTERM or SIGINT only sets `signum`; a second SIGINT ends the process at once."""

    def __init__(self, announce: bool) -> None:
        """`announce`: whether this process says what it will do."""
        self.signum = 0
        self._announce = announce
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._former[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        if self.signum and signum == signal.SIGINT:
            os._exit(128 + signum)
        self.signum = self.signum or signum
        if self._announce:
            # Not print(): a handler may run in the middle of another print, whose buffer cannot be entered twice.
            with suppress(OSError, ValueError):  # nobody may listen any more
                os.write(sys.stderr.fileno(), b"\nstopping after this step; Ctrl-C once more quits at once\n")

    def watch(self, batches: Iterable[Item], message: str) -> Iterator[Item]:
        """`batches`, ended by Interrupted(message) as soon as a signal came: for work that needs no saving."""
        try:
            for batch in batches:
                if self.signum:
                    raise Interrupted(self.signum, message)
                yield batch
        except BrokenExecutor:
            # Batch systems send SIGTERM to every process, which ends those of a pool.
            if not self.signum:
                raise
            raise Interrupted(self.signum, message) from None
