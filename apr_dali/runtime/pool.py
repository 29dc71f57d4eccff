"""Work that is dealt to processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from apr_dali.errors import InputError


@contextmanager
def process_map(processes: int, what: str) -> Iterator[Callable[..., Iterator[Any]]]:
    """Within it a `map` over several processes, whose functions and items are pickled; with 1 over this one.

    what: the work, as "decoding", for the InputError that says that a process died of it.
    """
    if processes == 1:
        yield map
        return
    # Not fork: the caller may have threads, and a lock held by one of them would never open in the child.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts)
    try:
        yield pool.map
    except BrokenProcessPool:
        raise InputError(
            f"one of {processes} {what} processes died, mostly for lack of memory: take fewer (--processes)"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
