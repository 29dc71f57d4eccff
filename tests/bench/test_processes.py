"""Measuring in processes of their own: their CPU time, their errors and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import bench_children
from helpers.waiting import ended, until

from apr_dali.bench import processes
from apr_dali.errors import InputError


class TestProcesses:
    def test_cpu_time_counts_workers_living_and_ended(self):
        own, living, after = processes.in_own_process(bench_children.cost, 0.3)
        assert living - own >= 0.3
        assert after >= living

    def test_a_worker_that_has_ended_and_was_not_waited_for_has_no_memory(self):
        """Whoever left it: of any test in this process."""
        before, cost = processes.peak_mib(), processes.cpu_seconds()
        with subprocess.Popen([sys.executable, "-c", "pass"]) as worker:
            until(lambda: ended(worker.pid))
            assert processes.peak_mib() >= before
            assert processes.cpu_seconds() > cost

    def test_what_ends_while_it_is_looked_at_is_passed_over(self, monkeypatch):
        worker = subprocess.Popen([sys.executable, "-c", "pass"])
        worker.wait()
        with monkeypatch.context() as patch:
            patch.setattr(processes, "_children", lambda: [worker.pid])
            assert processes.peak_mib() > 0
            assert processes.cpu_seconds() > 0
        monkeypatch.setattr(Path, "iterdir", lambda folder: [folder / "0"])  # a thread
        assert processes._children() == []

    @pytest.mark.parametrize(
        ("kind", "error", "says"),
        [
            ("input", InputError, "^no such thing$"),
            ("other", RuntimeError, "(?s)in fail.*ZeroDivisionError: by nothing"),
            ("death", RuntimeError, "died with exit code 7"),
        ],
    )
    def test_errors_come_through(self, kind, error, says):
        with pytest.raises(error, match=says):
            processes.in_own_process(bench_children.fail, kind)

    def test_its_progress_bars_leave_no_semaphores_behind(self):
        assert not processes.in_own_process(bench_children.locks_of_bars)

    def test_its_children_end_with_it(self, tmp_path):
        child = processes.in_own_process(bench_children.leave_a_child, str(tmp_path / "pids"), 0.0)
        until(lambda: ended(child))

    def test_ctrl_c_leaves_nothing_behind(self, tmp_path):
        pids = tmp_path / "pids"

        def interrupt() -> None:
            until(lambda: pids.exists() and pids.read_text().endswith("\n"))
            os.kill(os.getpid(), signal.SIGINT)

        # A test run in the background of a shell has Ctrl-C switched off.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                processes.in_own_process(bench_children.leave_a_child, str(pids), 600.0)
        finally:
            signal.signal(signal.SIGINT, former)
        thread.join()
        for pid in pids.read_text().split():
            until(lambda pid=int(pid): ended(pid))
