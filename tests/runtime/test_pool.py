"""Processes that end when their work is no longer wanted."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest
from helpers.processes import PATIENCE, die
from helpers.project import ROOT
from helpers.waiting import ended, until

from apr_dali.errors import InputError
from apr_dali.runtime.pool import process_map


def all_but_the_first_forever(number: int) -> int:
    if number:
        threading.Event().wait()
    return number


@pytest.mark.parametrize("error", [InputError, KeyboardInterrupt])
def test_an_error_ends_calls_that_run(error):
    others = multiprocessing.active_children()  # of other tests

    def stopped():
        with process_map(2, "counting") as mapped:
            next(mapped(all_but_the_first_forever, range(8)))
            raise error("enough")

    with pytest.raises(error, match="enough"):
        stopped()
    assert set(multiprocessing.active_children()) <= set(others)


def test_a_dead_process_is_named():
    for goes_on, told in ((False, "processes\\)$"), (True, "and run the same command, which goes on$")):
        with (
            pytest.raises(InputError, match=f"one of 2 counting processes died, .* take fewer .*{told}"),
            process_map(2, "counting", goes_on) as mapped,
        ):
            list(mapped(die, range(2)))


def is_blocked(signum: int) -> bool:
    return signum in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_process_never_gets_an_interrupt():
    """Not while it imports its modules either, before anything could be set in it."""
    with process_map(2, "counting") as mapped:
        assert list(mapped(is_blocked, [signal.SIGINT] * 2)) == [True, True]
    assert not is_blocked(signal.SIGINT)


_KILLED = """
import os, sys
from apr_dali.runtime.pool import process_map
if __name__ == "__main__":
    with process_map(2, "counting") as mapped:
        for pid in mapped(eval, ["__import__('os').getpid()"] * 2):
            print(pid, flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_the_processes_of_a_killed_one_end(tmp_path):
    (tmp_path / "killed.py").write_text(_KILLED)
    command, environment = [sys.executable, "killed.py"], {**os.environ, "PYTHONPATH": str(ROOT)}
    # They have its stdout, too: those that stay would be waited for here.
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    pids = set(map(int, ran.stdout.split()))
    assert pids
    until(lambda: all(map(ended, pids)))


def test_windows_cannot_block_an_interrupt(monkeypatch):
    monkeypatch.delattr(signal, "pthread_sigmask")
    with process_map(2, "counting") as mapped:
        assert list(mapped(divmod, [7, 9], [2, 2])) == [(3, 1), (4, 1)]


def test_results_come_in_order():
    for processes in (1, 2):
        with process_map(processes, "counting") as mapped:
            assert list(mapped(divmod, range(20), [7] * 20)) == [divmod(n, 7) for n in range(20)]
