"""Best effort for what only adorns a run: pictures, curves, progress. It must not end one that has trained for days."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from apr_dali.errors import first_line
from apr_dali.runtime.output import give_up_unread


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Within it an error becomes a warning on stderr that `what` failed, and what comes after it goes on."""
    try:
        yield
    # Pillow, matplotlib, TensorBoard and a disk fail each in their own way.
    except Exception as error:  # noqa: BLE001 - no error in here is worth the run
        with suppress(OSError, ValueError):  # stderr may be what has gone
            print(f"warning: {what} failed ({first_line(error)}); the run goes on", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """Print a line of the run's progress, as long as somebody listens."""
    with best_effort("printing"):
        try:
            print(text, flush=True)
        except BrokenPipeError:
            give_up_unread()
            raise
