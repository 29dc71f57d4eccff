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
from apr_dali.errors import InputError
from apr_dali.eval.clean import evaluate
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.runtime import checkpoint
from apr_dali.runtime.distributed import start
from apr_dali.training.options import CifarOptions

_SCRIPT = Path(__file__).resolve().parents[1] / "train_cifar.py"
_CIFAR_C = 10_000  # images a severity
CLEAN = "clean"


def train_and_test(given: dict[str, Any], cifar_c: str = "") -> dict[str, float]:
    """Train with the options `given` and give the errors (0..1) on the evaluation sets that there are, by name.

    cifar_c: folder of CIFAR-10-C or CIFAR-100-C; without it the clean images, and of digits corrupted ones.
    """
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
        trainer.load(checkpoint.load(latest, script.architecture(options), trained.classes))
        errors = {}
        for name, part in evaluation_sets(options, validated, cifar_c):
            with CifarLoader(part, train=False, **script.common(options, group)) as loader:
                errors[name] = 1 - evaluate(trainer.evaluated, loader, group.device, trainer.amp).top1
    return errors


def evaluation_sets(options: CifarOptions, validated: ArraySet, cifar_c: str) -> Iterator[tuple[str, ArraySet]]:
    """The clean test images, then each corruption, its severities together."""
    yield CLEAN, validated
    if options.dataset == "digits":
        for name, (corrupt, strengths) in CORRUPTIONS.items():
            yield name, _with(validated, [corrupt(validated.images, strength) for strength in strengths])
    elif cifar_c:
        files = sorted(path for path in Path(cifar_c).glob("*.npy") if path.stem != "labels")
        if not files:
            raise InputError(f"{cifar_c} holds no NAME.npy: give the folder of CIFAR-10-C or CIFAR-100-C")
        for path in files:
            images = np.load(path, mmap_mode="r")
            yield path.stem, _with(validated, np.split(images, len(images) // _CIFAR_C))


def _with(validated: ArraySet, parts: list[Images]) -> ArraySet:
    return ArraySet(np.concatenate(parts), np.tile(validated.labels, len(parts)), validated.classes)


def mean_corrupted(errors: dict[str, float]) -> float:
    """Mean error over the corruptions, nan where there are none."""
    found = [error for name, error in errors.items() if name != CLEAN]
    return float(np.mean(found)) if found else float("nan")
