"""Runs of train_imagenet.py on small crops of three photographs, and what they leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from helpers.processes import ENVIRONMENT, PATIENCE
from helpers.project import ROOT

SCRIPT = ROOT / "train_imagenet.py"
# The smallest of torchvision's networks that has batch norm.
SMALL = ["--model", "shufflenet_v2_x0_5", "--image-size", "32", "--batch-size", "8", "--lr", "0.01"]
SMALL += ["--threads", "1", "--device", "cpu"]
CLASSES = ("astronaut", "chelsea", "coffee")
TRAINING, VALIDATION = 16, 3  # images of a class
STEPS = len(CLASSES) * TRAINING // 8


def state_of(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def rows_of(folder: Path, kind: str = "epoch") -> list[dict]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def assert_same(found, expected, where: str = "") -> None:
    """Bit for bit, through nested containers."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for n, pair in enumerate(zip(found, expected, strict=True)):
            assert_same(*pair, f"{where}[{n}]")
    else:
        assert found == expected, where


# Sends itself a signal in a certain step, as others may at any time: from outside no moment is sure to be met.
_SIGNALLED = """
import os, runpy, sys
from apr_dali.training.engine import Trainer
signum, left, *sys.argv = sys.argv[1:]
left, step = int(left), Trainer.step
def signalled(self, *given):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), int(signum))
    return step(self, *given)
Trainer.step = signalled
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(tree: Path, folder: Path, *given: str, signum: int = 0, step: int = 0) -> tuple[int, str]:
    """Train in a process of its own, which gets `signum` in its `step`-th step; gives its exit code and its output."""
    command = [sys.executable, "-c", _SIGNALLED, str(signum), str(step), str(SCRIPT), *SMALL, "--data", str(tree)]
    command += ["--aug", "apr-sp", "--epochs", "2", "--output", str(folder), "--resume", "auto", *given]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, env=ENVIRONMENT, timeout=PATIENCE, check=False, **output)
    return done.returncode, done.stdout
