"""The helper that forks scripts: they are processes as any other, and find nothing of this project imported."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from helpers import forked
from helpers.forked import in_two, run
from helpers.project import ROOT

pytestmark = pytest.mark.slow

SCRIPT = """
import atexit, os, signal, sys
atexit.register(print, "by its exit handlers")
assert __name__ == "__main__" and "torch" in sys.modules
assert not [name for name in sys.modules if name.split(".")[0] in ("apr_dali", "helpers", "pytest")]
print(sys.argv, os.getcwd(), os.environ["OWN"], sys.path[0])
exec(sys.argv[1])
"""


@pytest.fixture
def script(tmp_path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path / "script.py"


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('no')", 1, "no\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    ],
)
def test_it_ends_as_every_process_does(script, code, status, error):
    done = run(script, code, cwd=script.parent, OWN="value")
    assert done.returncode == status
    assert done.stderr.endswith(error)
    assert bool(done.stderr) == bool(error)
    if status >= 0:
        begin = f"{[str(script), code]} {script.parent} value {script.parent}\n"
        assert done.stdout == begin + "by its exit handlers\n"
    assert "OWN" not in os.environ


def test_the_project_is_the_one_that_is_tested(tmp_path):
    (tmp_path / "script.py").write_text("import apr_dali; print(apr_dali.__file__)")
    assert run("script.py", cwd=tmp_path).stdout == f"{ROOT / 'apr_dali' / '__init__.py'}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import threading, time; threading.Thread(target=time.sleep, args=[1]).start()", "has started a thread"),
        ("import no_such_library", "No module named 'no_such_library'"),
    ],
)
def test_why_nothing_can_be_forked_is_said(text, reason, tmp_path, monkeypatch):
    (tmp_path / "some_library.py").write_text(text)
    monkeypatch.setattr(forked, "LIBRARIES", ("some_library",))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=f"(?s)nothing can be forked for the tests: .*{reason}"):
        forked._server.__wrapped__()


def test_a_module_runs_by_its_name(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "thing.py").write_text("import sys; print(__name__, __package__, sys.argv)")
    done = run("-m", "some.thing", 1, cwd=tmp_path)
    assert done.stdout == f"__main__ some {[str(tmp_path / 'some' / 'thing.py'), '1']}\n"


def test_two_are_a_group_and_end_together(tmp_path):
    (tmp_path / "two.py").write_text(
        "import sys, time, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "found = [None] * dist.get_world_size()\n"
        "dist.all_gather_object(found, dist.get_rank())\n"
        "for letter in f'{found}\\n': print(letter, end='', flush=True), time.sleep(0.01)\n"
        "if sys.argv[1:] and dist.get_rank() == 1: sys.exit(5)\n"
        "if sys.argv[1:]: time.sleep(1000)\n"
        "dist.destroy_process_group()\n"
    )
    done = in_two("two.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[0, 1]\n") == 2
    assert in_two("two.py", "dies", cwd=tmp_path).returncode == 5


def test_the_session_has_a_folder_of_its_own_for_what_is_left_behind(script):
    done = run(script, "import tempfile; print(tempfile.mkdtemp())", cwd=script.parent, OWN="")
    made = Path(done.stdout.splitlines()[1])
    assert made.parent == Path(tempfile.gettempdir()) != Path(os.environ["PYTEST_DEBUG_TEMPROOT"])
