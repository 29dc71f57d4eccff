"""How a command ends: its errors as one line, its exit status."""

from __future__ import annotations

import errno
import signal
import sys
import time
from collections.abc import Callable

from apr_dali.errors import InputError
from apr_dali.runtime import launcher
from apr_dali.runtime.distributed import rank_of_environment
from apr_dali.runtime.interrupts import Interrupted
from apr_dali.runtime.output import quiet_where_unread

BAD_INPUT = 2
# torchrun kills the other processes as soon as one ends. A process that is not the main one waits this long in
# seconds: an error that all share is then printed once, by the main process, and one of its own still comes out.
_WAIT = 15.0


def run(
    main: Callable[[], int | None], going_on: str = "continue with --resume auto --output and the run folder"
) -> int:
    """Run `main` and return the exit status of the process: that of `main`, None for 0.

    InputError and a full disk: `error: ...` on stderr, 2. Interrupted: its message, 128 + the signal's number.
    going_on: what to do once there is room on a full disk.
    """
    try:
        launcher.adopt()
        with quiet_where_unread():
            return main() or 0
    except InputError as error:
        return _fail(str(error))
    except Interrupted as stop:
        if rank_of_environment() == 0:
            print(stop, file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _fail(f"{error}: free some space, then {going_on}")


def _fail(message: str) -> int:
    rank = rank_of_environment()
    if rank:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(_WAIT)
        message = f"process {rank}: {message}"
    print(f"error: {message}", file=sys.stderr, flush=True)
    return BAD_INPUT
