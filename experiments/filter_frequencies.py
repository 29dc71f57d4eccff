"""Do the frequencies of the first layer's filters matter for robustness? On digits: error under corruption.

    python experiments/filter_frequencies.py                         # two processes on two cores
    python experiments/filter_frequencies.py --seeds 1 --epochs 3

Trains WRN-16-1 as it is, with a fixed proportion of low-frequency filters (train_cifar.py --low-filters) and with a
modulated first layer (--first-layer modulated, with and without noise), and tests on corruptions that no training
used. Writes experiments/results/filter_frequencies.json and .png.

This is our reading of "Exploring Frequency Domain Interpretation of Convolutional Neural Networks" (arXiv 1911.12044),
whose full text was not available to us and whose authors call its main conclusion ambiguous. Its abstract's figure,
10.97 % error of a ResNet-18 on CIFAR-10-C, is of another network and another set: it stands beside ours, no target.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from small_runs import CLEAN, mean_corrupted
from small_sweep import Errors, measure, parse

from apr_dali.runtime.exit_status import run
from apr_dali.runtime.figures import new_figure

PROPORTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
PLAIN = "plain"
METHODS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    **{f"ρ = {proportion:g}": {"low_filters": proportion} for proportion in PROPORTIONS},
    "modulated, δ = 0": {"first_layer": "modulated", "modulation_noise": 0.0},
    "modulated, δ = 0.1": {"first_layer": "modulated"},
    "modulated, δ = 0.5": {"first_layer": "modulated", "modulation_noise": 0.5},
}
PUBLISHED = "10.97 %: the abstract's figure, ResNet-18 on CIFAR-10-C, not comparable with these errors on digits"


def main() -> None:
    given = parse(__doc__, METHODS)
    found, settings = measure(given)
    record = {**settings, "published": PUBLISHED, "errors": found}
    (given.output / "filter_frequencies.json").write_text(json.dumps(record, indent=1) + "\n")
    print(table(found))
    print(PUBLISHED)
    plot(found, f"{given.model} on digits, {given.epochs} epochs", given.output / "filter_frequencies.png")


def of(runs: list[dict[str, float]], corrupted: bool) -> tuple[float, float]:
    """Mean and standard deviation over the seeds, percent; the deviation of one seed is 0."""
    errors = [100 * (mean_corrupted(run) if corrupted else run[CLEAN]) for run in runs]
    return float(np.mean(errors)), float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0


def table(found: Errors) -> str:
    """Errors in percent: mean and standard deviation over the seeds."""
    lines = ["| error, % | clean | corrupted |", "|---|---|---|"]
    for method, runs in found.items():
        shown = [of(runs, corrupted) for corrupted in (False, True)]
        cells = [f"{mean:.1f} ± {spread:.1f}" if len(runs) > 1 else f"{mean:.1f}" for mean, spread in shown]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(found: Errors, title: str, path: Path) -> None:
    """Left, error over the proportion of low-frequency filters; right, of the modulated layer; plain as a line."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2, sharey=True)
    methods = [name for name in found if name.startswith("modulated")]
    for corrupted, color, marker in ((False, "#0072b2", "o"), (True, "#d55e00", "s")):
        label = "corrupted" if corrupted else "clean"
        for axes, places, names in (
            (left, PROPORTIONS, [f"ρ = {proportion:g}" for proportion in PROPORTIONS]),
            (right, range(len(methods)), methods),
        ):
            mean, spread = zip(*(of(found[name], corrupted) for name in names), strict=True)
            line = "-" if axes is left else ""
            axes.errorbar(places, mean, spread, fmt=marker + line, color=color, capsize=3, label=label)
            plain, _ = of(found[PLAIN], corrupted)
            axes.axhline(plain, color=color, linestyle="--", linewidth=1, label=f"{label}, plain first layer")
            axes.grid(alpha=0.3)
    left.set(xlabel="ρ, proportion of low-frequency filters", ylabel="error (%)", ylim=(0, None), xticks=PROPORTIONS)
    right.set(xlabel="modulated first layer, δ of its noise", xlim=(-0.5, len(methods) - 0.5))
    right.set_xticks(range(len(methods)), [name.partition("δ = ")[2] for name in methods])
    right.legend(fontsize=8)
    figure.suptitle(f"{title}: our reading of arXiv 1911.12044", fontsize=10)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(run(main))
