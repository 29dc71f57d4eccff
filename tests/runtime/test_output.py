"""What a command does whose output nobody reads any more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import forked
from helpers.project import ROOT

_UNREAD = """
import os, sys
reader, writer = os.pipe()
os.close(reader)
os.dup2(writer, 1)
"""
_SAYS = """
from apr_dali.runtime.best_effort import say
for _ in range(3):
    say("line")
"""


_FAILS = """
import apr_dali.cli as cli
def build_parser(_):
    print("line")
    raise {error}
cli.build_parser = build_parser
sys.exit(cli.main([]))
"""


def ended(code: str, **environment: str) -> tuple[int, str]:
    """Exit status and stderr of Python code whose stdout is a pipe that nobody reads."""
    given = {**os.environ, "PYTHONUNBUFFERED": "", **environment}
    found = subprocess.run(
        [sys.executable, "-c", _UNREAD + code], capture_output=True, text=True, env=given, cwd=ROOT, check=False
    )
    return found.returncode, found.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_command_ends_without_a_word(unbuffered):
    code = "import apr_dali.cli as cli\nsys.exit(cli.main(['--version']))"
    assert ended(code) == (141, "")
    code = "from apr_dali.runtime.output import quiet_where_unread\nwith quiet_where_unread():\n    print('line')"
    assert ended(code, PYTHONUNBUFFERED=unbuffered) == (141, "")


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [("cli.InputError('bad')", 2, "error: bad\n"), ("KeyboardInterrupt", 130, "interrupted\n")],
)
def test_its_own_error_stays_what_it_is(error, status, told):
    """`| tee` ends with Ctrl-C, too, while lines wait to be written."""
    assert ended(_FAILS.format(error=error)) == (status, told)


def test_nothing_is_said_where_nobody_reads_errors_either():
    code = "os.dup2(1, 2)\nfrom apr_dali.runtime.output import quiet_where_unread\n"
    assert ended(code + "with quiet_where_unread():\n    print('line', file=sys.stderr)") == (141, "")


def test_a_full_disk_is_one_error():
    full = "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\nimport apr_dali.cli as cli\n"
    assert ended(f"{full}sys.exit(cli.main(['--version']))") == (2, "error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_run_goes_on_and_says_so_once(unbuffered):
    told = "warning: printing failed ([Errno 32] Broken pipe); the run goes on\n"
    assert ended(_SAYS, PYTHONUNBUFFERED=unbuffered) == (0, told)


def test_another_pipe_that_breaks_is_an_error(monkeypatch, capfd):
    from apr_dali import cli

    def broken(*_):
        raise BrokenPipeError(32, "to a worker")

    monkeypatch.setattr(cli, "build_parser", broken)
    assert cli.main([]) == 2
    assert capfd.readouterr().err == "error: [Errno 32] to a worker\n"


def test_a_trainer_that_prints_what_it_is_asked_for(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"{_UNREAD}from apr_dali.runtime.exit_status import run\nsys.exit(run(lambda: print('line')))")
    found = forked.run(script)
    assert found.returncode == 141
    # Others may have a last word: triton 3.9 lists what it has left behind.
    assert "BrokenPipe" not in found.stderr
