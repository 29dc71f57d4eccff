"""Runs of train_imagenet.py on small crops of three photographs."""

from __future__ import annotations

from pathlib import Path

from helpers.forked import run
from helpers.project import ROOT

SCRIPT = ROOT / "train_imagenet.py"
# The smallest of torchvision's networks that has batch norm.
SMALL = ["--model", "shufflenet_v2_x0_5", "--image-size", "32", "--batch-size", "8", "--lr", "0.01"]
SMALL += ["--threads", "1", "--device", "cpu"]
CLASSES = ("astronaut", "chelsea", "coffee")
TRAINING, VALIDATION = 16, 3  # images of a class
STEPS = len(CLASSES) * TRAINING // 8


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
    (script := folder.with_name("signalled.py")).write_text(_SIGNALLED)
    training = ["--data", tree, "--aug", "apr-sp", "--epochs", 2, "--output", folder, "--resume", "auto", *given]
    done = run(script, int(signum), step, SCRIPT, *SMALL, *training)
    return done.returncode, done.stdout + done.stderr
