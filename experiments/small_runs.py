"""Training by train_cifar.py from within a program, and errors of what it trained."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from apr_dali.data.arrays import ArraySet
from apr_dali.data.small_corruptions import CORRUPTIONS, Images
from apr_dali.eval.calibration import ece
from apr_dali.eval.clean import evaluate
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.runtime import checkpoint
from apr_dali.runtime.distributed import start
from apr_dali.training.engine import Trainer
from apr_dali.training.epochs import AVERAGED, networks
from apr_dali.training.options import CifarOptions

_SCRIPT = Path(__file__).resolve().parents[1] / "train_cifar.py"
CLEAN = "clean"
ECE, ECE_CORRUPTED, SECONDS = "ECE", "ECE, corrupted", "seconds"


def train_and_test(given: dict[str, Any]) -> dict[str, float]:
    """Train on digits with the options `given` and give the errors (0..1) on `evaluation_sets`, by name."""
    with _trained(given) as (trainer, network, validated, loader_of):
        errors = {}
        for name, part in evaluation_sets(validated):
            with loader_of(part) as loader:
                errors[name] = 1 - evaluate(network, loader, trainer.group.device, trainer.amp).top1
    return errors


def train_and_calibrate(given: dict[str, Any]) -> dict[str, float]:
    """`train_and_test`, and beside the errors ECE (0..1), of clean images and over the corruptions, and SECONDS."""
    started = time.perf_counter()
    with _trained(given) as (_, network, validated, loader_of):
        seconds, found, calibration = time.perf_counter() - started, {}, {}
        for name, part in evaluation_sets(validated):
            with loader_of(part) as loader, torch.no_grad():
                rows = [(network.eval()(images).softmax(1), targets) for images, targets in loader]
            probabilities, targets = (torch.cat(column).numpy() for column in zip(*rows, strict=True))
            found[name] = float((probabilities.argmax(1) != targets).mean())
            calibration[name] = ece(probabilities, targets)
    return {**found, ECE: calibration[CLEAN], ECE_CORRUPTED: mean_corrupted(calibration), SECONDS: seconds}


@contextlib.contextmanager
def _trained(given: dict[str, Any]) -> Iterator[tuple[Trainer, nn.Module, ArraySet, Callable[[ArraySet], CifarLoader]]]:
    """The trainer after a run of train_cifar.py, its better network, the validation images, and their loader."""
    spec = importlib.util.spec_from_file_location("train_cifar", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    options = CifarOptions(**given)
    with start(options.device) as group:
        latest = Path(options.output) / checkpoint.LATEST
        with contextlib.redirect_stdout(io.StringIO()):
            script.train(options, group)
        trained, validated = script.open_parts(options, group)
        trainer = script.new_trainer(options, group, trained)
        trainer.load(checkpoint.load(latest, trained.classes))
        network = networks(trainer)[AVERAGED if trainer.position.averaged else ""]
        yield trainer, network, validated, lambda part: script.validation_loader(options, group, part)


def evaluation_sets(validated: ArraySet) -> Iterator[tuple[str, ArraySet]]:
    """The clean test images, then each corruption, its strengths together."""
    yield CLEAN, validated
    for name, (corrupt, strengths) in CORRUPTIONS.items():
        yield name, _with(validated, [corrupt(validated.images, strength) for strength in strengths])


def _with(validated: ArraySet, parts: list[Images]) -> ArraySet:
    return ArraySet(np.concatenate(parts), np.tile(validated.labels, len(parts)), validated.classes)


def mean_corrupted(errors: dict[str, float]) -> float:
    """Mean error over the corruptions, nan where there are none."""
    found = [error for name, error in errors.items() if name in CORRUPTIONS]
    return float(np.mean(found)) if found else float("nan")
