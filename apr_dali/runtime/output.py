"""Standard output whose reader has gone, as that of `apr-dali … | head -1`. Imports nothing heavy."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def quiet_where_unread() -> Iterator[None]:
    """Within it a command whose output nobody reads any more ends without a word, with a shell's status for that.

    What was printed is written at its end, so that a full disk is an error of the command. Its other errors stay what
    they are.
    """
    try:
        try:
            yield
        except SystemExit:
            print(end="", flush=True)
            raise
        print(end="", flush=True)
    except BaseException as error:
        if give_up_unread() and isinstance(error, BrokenPipeError):
            raise SystemExit(128 + signal.SIGPIPE) from None
        raise


def give_up_unread() -> bool:
    """Whether nobody reads what is printed any more.

    What cannot be written, for that or another reason, goes nowhere from now on: the interpreter writes what is left
    once more when it ends, and would complain, with a status of its own.
    """
    unread = False
    for stream in (sys.stdout, sys.stderr):
        try:
            number, asked = stream.fileno(), select.poll()
        except (AttributeError, OSError, ValueError):  # no stream, a closed one, a notebook's; Windows has no poll
            continue
        # Asked, as other pipes break too, such as those to other processes.
        asked.register(number, 0)
        closed = bool(asked.poll(0))
        if closed or not _empties(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
        unread = unread or closed
    return unread


def _empties(stream: TextIO) -> bool:
    try:
        stream.flush()
    except OSError:
        return False
    return True
