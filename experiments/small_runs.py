"""Training by train_cifar.py from within a program, and errors of what it trained."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from apr_dali.data.arrays import ArraySet
from apr_dali.data.small_corruptions import CORRUPTIONS, Images
from apr_dali.eval.clean import evaluate
from apr_dali.runtime import checkpoint
from apr_dali.runtime.distributed import start
from apr_dali.training.options import CifarOptions

_SCRIPT = Path(__file__).resolve().parents[1] / "train_cifar.py"
CLEAN = "clean"


def train_and_test(given: dict[str, Any]) -> dict[str, float]:
    """Train on digits with the options `given` and give the errors (0..1) on `evaluation_sets`, by name."""
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
        errors = {}
        for name, part in evaluation_sets(validated):
            with script.validation_loader(options, group, part) as loader:
                errors[name] = 1 - evaluate(trainer.evaluated, loader, group.device, trainer.amp).top1
    return errors


def evaluation_sets(validated: ArraySet) -> Iterator[tuple[str, ArraySet]]:
    """The clean test images, then each corruption, its strengths together."""
    yield CLEAN, validated
    for name, (corrupt, strengths) in CORRUPTIONS.items():
        yield name, _with(validated, [corrupt(validated.images, strength) for strength in strengths])


def _with(validated: ArraySet, parts: list[Images]) -> ArraySet:
    return ArraySet(np.concatenate(parts), np.tile(validated.labels, len(parts)), validated.classes)


def mean_corrupted(errors: dict[str, float]) -> float:
    """Mean error over the corruptions, nan where there are none."""
    found = [error for name, error in errors.items() if name != CLEAN]
    return float(np.mean(found)) if found else float("nan")
