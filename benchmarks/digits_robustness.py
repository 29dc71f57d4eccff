"""Does APR make a small network more robust? On digits, three seeds: error on clean and on corrupted test images.

    python benchmarks/digits_robustness.py                    # two processes on two cores
    python benchmarks/digits_robustness.py --seeds 1 --epochs 3

Trains WRN-16-1 without APR and with APR-P, APR-S (values outside 0..255 wrapped, as published, or clamped) and
APR-SP, and tests on corruptions that no training used. Writes benchmarks/results/digits_robustness.json and .png.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

# Two processes share two cores: more threads in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from small_runs import CLEAN, mean_corrupted, train_and_test

from apr_dali.training.command import run

RESULTS = Path(__file__).parent / "results"
METHODS: dict[str, dict[str, Any]] = {
    "standard": {"aug": "none"},
    "APR-P": {"aug": "apr-p"},
    "APR-S, wrap": {"aug": "apr-s"},
    "APR-S, clamp": {"aug": "apr-s", "overflow": "clamp"},
    "APR-SP, wrap": {"aug": "apr-sp"},
    "APR-SP, clamp": {"aug": "apr-sp", "overflow": "clamp"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--model", default="wrn-16-1")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the table and the plot")
    given = parser.parse_args()
    started = time.monotonic()
    jobs = [(name, seed) for seed in range(given.seeds) for name in METHODS]
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(given.processes, multiprocessing.get_context("spawn")) as pool,
    ):
        coming = [pool.submit(train_and_test, options(given, *job, scratch)) for job in jobs]
        found: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
        for (name, seed), result in zip(jobs, coming, strict=True):
            found[name].append(result.result())
            errors = found[name][-1]
            print(
                f"seed {seed}  {name:14} clean {errors[CLEAN]:.1%}  corrupted {mean_corrupted(errors):.1%}", flush=True
            )
    given.output.mkdir(parents=True, exist_ok=True)
    settings = {"model": given.model, "epochs": given.epochs, "seeds": given.seeds}
    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    row = {"seconds": round(time.monotonic() - started), **settings, **machine, "errors": found}
    (given.output / "digits_robustness.json").write_text(json.dumps(row, indent=1) + "\n")
    print(table(found))
    plot(found, given.output / "digits_robustness.png")


def options(given: argparse.Namespace, name: str, seed: int, scratch: str) -> dict[str, Any]:
    """train_cifar.py's options: the published recipe, shortened in its proportions."""
    steps = tuple(sorted({max(1, round(given.epochs * part)) for part in (0.5, 0.75, 0.9)}))
    shared = {"model": given.model, "epochs": given.epochs, "batch_size": 64, "lr_steps": steps}
    place = {"device": "cpu", "threads": 1, "output": f"{scratch}/{name}-{seed}"}
    return {**shared, **METHODS[name], **place, "seed": seed}


def mean_and_spread(values: list[float]) -> str:
    tensor = 100 * torch.tensor(values)
    spread = f" ± {float(tensor.std()):.1f}" if len(values) > 1 else ""
    return f"{float(tensor.mean()):.1f}{spread}"


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Errors in percent: mean and standard deviation over the seeds."""
    names = list(next(iter(found.values()))[0])
    lines = ["| error, % | " + " | ".join(["clean", "corrupted", *names[1:]]) + " |", "|---" * (len(names) + 2) + "|"]
    for method, runs in found.items():
        cells = [[errors[CLEAN] for errors in runs], [mean_corrupted(errors) for errors in runs]]
        cells += [[errors[name] for errors in runs] for name in names[1:]]
        lines.append(f"| {method} | " + " | ".join(map(mean_and_spread, cells)) + " |")
    return "\n".join(lines)


def plot(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """A group of bars a corruption, a bar a method: mean over the seeds, and their standard deviation as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    names = list(next(iter(found.values()))[0])
    groups = [CLEAN, "all corruptions", *names[1:]]
    width = 1 / (len(found) + 1)
    for n, (method, runs) in enumerate(found.items()):
        errors = [{**run, "all corruptions": mean_corrupted(run)} for run in runs]
        values = 100 * torch.tensor([[run[name] for name in groups] for run in errors])
        spread = values.std(0).tolist() if len(runs) > 1 else None
        places = [k + n * width for k in range(len(groups))]
        axes.bar(places, values.mean(0).tolist(), width, label=method, yerr=spread, error_kw={"linewidth": 0.8})
    axes.set_xticks([k + 0.5 - width for k in range(len(groups))], groups)
    axes.set(ylabel="error (%)", title="digits: clean and corrupted test images", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(run(main))
