"""How a command ends: exit statuses and what is printed."""

from __future__ import annotations

import errno
import signal

import pytest

from apr_dali.errors import InputError
from apr_dali.runtime import exit_status
from apr_dali.runtime.interrupts import Interrupted


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (InputError("no such thing"), 2, "error: no such thing\n"),
        (Interrupted(signal.SIGTERM, "saved"), 143, "saved\n"),
        (Interrupted(signal.SIGINT, "saved"), 130, "saved\n"),
        (KeyboardInterrupt(), 130, ""),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 2, "error: [Errno 28] No space left on device: 'f'"),
    ],
)
def test_exit_statuses(error, status, told, capsys):
    def main():
        raise error

    assert exit_status.run(main) == status
    assert capsys.readouterr().err.startswith(told)


def test_programming_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_status.run(lambda: 1 / 0)
