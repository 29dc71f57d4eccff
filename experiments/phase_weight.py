"""Amplitude's label or phase's? The sweep over λ of the paper's section 5.3, with a table and its Fig. 9.

    python experiments/phase_weight.py --model wrn-16-1 --epochs 10
    python experiments/phase_weight.py --dataset cifar10 --data /path/cifar --cifar-c /path/CIFAR-10-C --amp bf16

Trains APR-P with a second head for each λ (train_cifar.py --phase-weight) and tests the prediction λ·f_P + (1 − λ)·f_A
on the clean test images and on whatever else there is: corrupted digits, or CIFAR-C. All options but --weights,
--cifar-c and --results are train_cifar.py's. Writes RESULTS/phase_weight.json and .png.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from small_runs import CLEAN, mean_corrupted, train_and_test

from apr_dali.runtime.exit_status import run
from apr_dali.training.command_line import parse
from apr_dali.training.options import CifarOptions

WEIGHTS = tuple(n / 10 for n in range(11))


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--weights", type=float, nargs="+", default=WEIGHTS)
    parser.add_argument("--cifar-c", default="")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    mine, rest = parser.parse_known_args()
    options = parse(CifarOptions, __doc__ or "", ["--aug", "apr-p", *rest])
    found = {}
    for weight in mine.weights:
        with tempfile.TemporaryDirectory() as scratch:
            given = asdict(options) | {"phase_weight": weight, "output": f"{scratch}/run"}
            found[weight] = train_and_test(given, mine.cifar_c)
        print(f"λ {weight:.2f}  {shown(found[weight])}", flush=True)
    mine.results.mkdir(parents=True, exist_ok=True)
    rows = [{"weight": weight, **errors} for weight, errors in found.items()]
    (mine.results / "phase_weight.json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(found, mine.results / "phase_weight.png")


def shown(errors: dict[str, float]) -> str:
    corrupted = f"  corrupted {mean_corrupted(errors):.2%}" if len(errors) > 1 else ""
    return f"error: clean {errors[CLEAN]:.2%}{corrupted}"


def plot(found: dict[float, dict[str, float]], path: Path) -> None:
    """Accuracy over λ, clean and, where there are corruptions, their mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    weights = sorted(found)
    axes.plot(weights, [100 * (1 - found[weight][CLEAN]) for weight in weights], "o-", label="clean")
    if len(found[weights[0]]) > 1:
        axes.plot(weights, [100 * (1 - mean_corrupted(found[weight])) for weight in weights], "s-", label="corrupted")
    axes.set(xlabel="λ: weight of the phase's label", ylabel="accuracy (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(run(main))
