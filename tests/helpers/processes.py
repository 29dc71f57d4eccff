"""Trainers in this process, and in several as torchrun starts them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from helpers.forked import PATIENCE, in_two

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}

# What every process ends with, written beside the run: checkpoints hold the main one's alone.
_SPY = """
import runpy, sys, torch
from apr_dali.training.engine import Trainer
end_epoch = Trainer.end_epoch
def spy(self, *given, **named):
    end_epoch(self, *given, **named)
    torch.save(self.model.state_dict(), f"rank{self.group.rank}.pt")
Trainer.end_epoch = spy
script, sys.argv[1:2] = sys.argv[1], []
runpy.run_path(script, run_name="__main__")
"""


def torchrun(*given: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    """Two processes of a script with its arguments; `variables` of the environment beside ours."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *map(str, given)]
    env = ENVIRONMENT | variables
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False)


def train_in_two(
    *given: object, cwd: Path, start: Callable[..., subprocess.CompletedProcess] = in_two
) -> subprocess.CompletedProcess:
    """Two processes of a trainer, which leave their weights in `cwd` as rank0.pt and rank1.pt. start: or `torchrun`."""
    (cwd / "spy.py").write_text(_SPY)
    return start("spy.py", *given, cwd=cwd)


def script_of(path: Path) -> ModuleType:
    """A script as a module of this process."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def die(_: object) -> None:
    """The end of the process that is to do something with a thing."""
    os._exit(1)
