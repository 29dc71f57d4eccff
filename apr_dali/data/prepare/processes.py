"""The processes that `prepare` and `make-c` work with."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from apr_dali.errors import InputError

_AHEAD = 2
"""Calls a process that are waiting: what they are given is held in memory twice."""


@contextmanager
def mapper(processes: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """A `map`, lazy and in order, in this process or in several others, which end with this one however it ends.

    After an error or Ctrl-C they end at once, in the middle of a call: what it writes must be whole or not there.
    """
    if processes == 1:
        yield map
        return
    others = set(multiprocessing.active_children())
    # Not fork: the caller may have threads, and a lock held by one of them would never open in the child.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_begin)

    def mapped(function: Callable[..., Any], *given: Any) -> Iterator[Any]:
        waiting: deque[Future[Any]] = deque()
        for arguments in zip(*given, strict=True):
            waiting.append(pool.submit(function, *arguments))
            if len(waiting) > _AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield mapped
    except BrokenProcessPool:
        raise InputError(
            f"one of {processes} processes died, mostly for lack of memory: take fewer (--processes), and run the same "
            "command, which goes on"
        ) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent cannot say so, and its pool's processes would wait for work forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
