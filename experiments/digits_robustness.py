"""Does APR make a small network more robust? On digits, three seeds: error on clean and on corrupted test images.

    python experiments/digits_robustness.py                    # two processes on two cores
    python experiments/digits_robustness.py --seeds 1 --epochs 3 --methods standard "APR-SP, wrap"

Trains WRN-16-1 without APR and with APR-P, APR-S (values outside 0..255 wrapped, as published, or clamped) and
APR-SP, and tests on corruptions that no training used. Writes experiments/results/digits_robustness.json and .png.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from small_runs import CLEAN, mean_corrupted
from small_sweep import measure, parse

from apr_dali.runtime.exit_status import run
from apr_dali.runtime.figures import new_figure

METHODS: dict[str, dict[str, Any]] = {
    "standard": {"aug": "none"},
    "APR-P": {"aug": "apr-p"},
    "APR-S, wrap": {"aug": "apr-s"},
    "APR-S, clamp": {"aug": "apr-s", "overflow": "clamp"},
    "APR-SP, wrap": {"aug": "apr-sp"},
    "APR-SP, clamp": {"aug": "apr-sp", "overflow": "clamp"},
}


def main() -> None:
    given = parse(__doc__, METHODS)
    found, settings = measure(given)
    (given.output / "digits_robustness.json").write_text(json.dumps({**settings, "errors": found}, indent=1) + "\n")
    print(table(found))
    picture = given.output / "digits_robustness.png"
    plot(found, picture)
    print(f"picture: {picture}")


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
    figure = new_figure(11, 4)
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
