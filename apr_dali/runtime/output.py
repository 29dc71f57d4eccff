"""Standard output whose reader has gone, as that of `apr-dali … | head -1`. Imports nothing heavy."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_where_unread() -> Iterator[None]:
    """Within it a command whose output nobody reads any more ends without a word, with a shell's status for that.

    What was printed is written at its end, so that a full disk is an error of the command.
    """
    try:
        try:
            yield
        except SystemExit:
            print(end="", flush=True)
            raise
        print(end="", flush=True)
    except BrokenPipeError:
        if not give_up_unread():
            raise
        raise SystemExit(128 + signal.SIGPIPE) from None


def give_up_unread() -> bool:
    """Whether nobody reads what is printed any more; if so it goes nowhere from now on.

    Other pipes break too, such as those to other processes.
    """
    number = sys.stdout.fileno()
    asked = select.poll()
    asked.register(number, 0)
    if not any(event & select.POLLERR for _, event in asked.poll(0)):
        return False
    # The interpreter writes what is left once more when it ends, and would complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
    return True
