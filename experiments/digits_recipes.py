"""What is a recipe worth? On digits, three seeds: published, modern, and modern without APR.

    python experiments/digits_recipes.py                    # two processes on two cores
    python experiments/digits_recipes.py --seeds 1 --epochs 2 --methods published

Trains WRN-16-1 with APR-SP as published, with `train_cifar.py --recipe modern`, and with that without APR and its
consistency loss; tests on clean images and on corruptions that no training used: error, and expected calibration error.
Warm-up and average are shortened with the epochs. Writes experiments/results/digits_recipes.json.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from digits_robustness import mean_and_spread
from small_runs import CLEAN, ECE, ECE_CORRUPTED, SECONDS, mean_corrupted, train_and_calibrate
from small_sweep import Errors, measure, parse

from apr_dali.runtime.exit_status import run
from apr_dali.training.options import CIFAR_RECIPES

# A run of 12 epochs has 264 updates of 64 digits: an average over 20 of them, and one epoch of warm-up.
_MODERN: dict[str, Any] = {**CIFAR_RECIPES["modern"].values, "recipe": "modern", "warmup_epochs": 1.0, "ema": 0.95}
METHODS: dict[str, dict[str, Any]] = {
    "published": {"aug": "apr-sp"},
    "modern": _MODERN,
    "modern without APR": {name: value for name, value in _MODERN.items() if name not in ("aug", "jsd")},
}


def main() -> None:
    given = parse(__doc__, METHODS)
    found, settings = measure(given, train_and_calibrate)
    (given.output / "digits_recipes.json").write_text(json.dumps({**settings, "found": found}, indent=1) + "\n")
    print(table(found))


def table(found: Errors) -> str:
    """Mean and standard deviation over the seeds: errors and ECE in percent, seconds of training."""
    lines = ["| | error, % | corrupted | ECE, % | corrupted | seconds |", "|---" * 6 + "|"]
    for method, runs in found.items():
        cells = [
            [errors[CLEAN] for errors in runs],
            [mean_corrupted(errors) for errors in runs],
            *([errors[name] for errors in runs] for name in (ECE, ECE_CORRUPTED)),
            # As the others, which are shown in percent.
            [errors[SECONDS] / 100 for errors in runs],
        ]
        lines.append(f"| {method} | " + " | ".join(map(mean_and_spread, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
