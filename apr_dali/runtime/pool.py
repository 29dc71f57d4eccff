"""Work that is dealt to processes."""

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
def process_map(processes: int, what: str, goes_on: bool = False) -> Iterator[Callable[..., Iterator[Any]]]:
    """Within it a `map`, lazy and in order, in this process or in several others, which end with this one however it
    ends; functions and items are pickled.

    After an error or Ctrl-C they end at once, in the middle of a call: what it writes must be whole or not there.

    what: the work, as "decoding", for the InputError that says that a process died of it. goes_on: whether the same
    command goes on after that.
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
            with _interrupts_blocked():  # the first calls start the processes
                waiting.append(pool.submit(function, *arguments))
            if len(waiting) > _AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        yield mapped
    except BrokenProcessPool:
        raise InputError(
            f"one of {processes} {what} processes died, mostly for lack of memory: take fewer (--processes)"
            + ", and run the same command, which goes on" * goes_on
        ) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Hold back Ctrl-C, which reaches every process of the terminal and which the parent alone answers.

    Processes that are started meanwhile never get it: it would end them while they import their modules. The parent
    gets it afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A killed parent cannot say so, and its pool's processes would wait for work forever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
