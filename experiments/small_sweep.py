"""Methods against seeds: every combination trained on digits and tested under corruption, in a few processes."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Two processes share two cores: more threads in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from small_runs import CLEAN, mean_corrupted, train_and_test

RESULTS = Path(__file__).parent / "results"
Errors = dict[str, list[dict[str, float]]]
"""Method → for each seed the error, 0..1, by test set."""


def parse(doc: str | None, methods: Mapping[str, dict[str, Any]]) -> argparse.Namespace:
    """The command line of such a benchmark, whose module has the docstring `doc`; `methods` become those chosen."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD", choices=methods, default=list(methods), help=", ".join(methods)
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--model", default="wrn-16-1")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the table and the plot")
    given = parser.parse_args()
    given.methods = {name: methods[name] for name in given.methods}
    return given


def measure(
    given: argparse.Namespace, test: Callable[[dict[str, Any]], dict[str, float]] = train_and_test
) -> tuple[Errors, dict[str, Any]]:
    """Train and test every chosen method, given by its options of train_cifar.py, with every seed, and tell of each.

    Returns the errors, and what they were measured with.
    """
    started, methods = time.monotonic(), given.methods
    jobs = [(name, seed) for seed in range(given.seeds) for name in methods]
    found: Errors = {name: [] for name in methods}
    width = max(map(len, methods))
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool,
    ):
        coming = [
            pool.submit(test, {**_shared(given, methods[name]), "seed": seed, "output": f"{scratch}/{number}"})
            for number, (name, seed) in enumerate(jobs)
        ]
        for (name, seed), result in zip(jobs, coming, strict=True):
            errors = result.result()
            found[name].append(errors)
            shown = f"clean {errors[CLEAN]:.1%}  corrupted {mean_corrupted(errors):.1%}"
            print(f"seed {seed}  {name:{width}} {shown}", flush=True)
    given.output.mkdir(parents=True, exist_ok=True)
    settings = {"model": given.model, "epochs": given.epochs, "seeds": given.seeds}
    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    return found, {"seconds": round(time.monotonic() - started), **settings, **machine}


def _shared(given: argparse.Namespace, method: dict[str, Any]) -> dict[str, Any]:
    """train_cifar.py's options for a method: the published recipe, shortened in its proportions, and its own."""
    shared = {"model": given.model, "epochs": given.epochs, "batch_size": 64, "device": "cpu", "threads": 1}
    if "schedule" not in method:
        shared["lr_steps"] = tuple(sorted({max(1, round(given.epochs * part)) for part in (0.5, 0.75, 0.9)}))
    return shared | method
