"""What is said where a part of the stack is not installed: which one, and the command that installs it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers.project import ROOT

_HIDDEN = """
import sys


class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)


sys.meta_path.insert(0, Hidden())
import apr_dali
from apr_dali.cli import main
"""


def told(code: str, *names: str) -> subprocess.CompletedProcess:
    """What Python code writes, where the modules `names` are not installed."""
    words = [sys.executable, "-c", _HIDDEN.format(names=names) + code]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    ("name", "hidden", "part"),
    [("CifarLoader", "torch", "torch"), ("AprPair", "torch", "torch"), ("CorruptedLoader", "nvidia", "DALI")],
)
def test_a_public_name_says_what_it_needs(name, hidden, part):
    last = told(f"apr_dali.{name}", hidden).stderr.splitlines()[-1]
    assert last.startswith(f"ModuleNotFoundError: apr_dali.{name} needs {part}, which is not installed: pip install")


def test_a_command_says_what_it_needs():
    found = told("sys.exit(main(['eval', 'clean', 'x.pt', '--data', 'y']))", "torch")
    assert found.returncode == 2
    assert found.stderr.startswith("error: this needs torch, which is not installed: pip install")
    assert found.stderr.count("\n") == 1


def test_other_modules_are_not_taken_for_a_part():
    found = told("apr_dali.PairDraws", "numpy")
    assert "ModuleNotFoundError: No module named 'numpy'" in found.stderr
