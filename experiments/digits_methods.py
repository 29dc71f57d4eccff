"""Every method on digits, three seeds: error on clean and on corrupted test images, and how calibrated it is.

    python experiments/digits_methods.py                      # two processes on two cores
    python experiments/digits_methods.py --seeds 1 --epochs 1 --methods none prime

Trains WRN-16-1 with APR and with each augmentation of docs/augmentations.md, by the settings and the views that were
published, or, where the trainers lack what those need, with both views and the sum of their losses ("both views").
Tests on corruptions that no training used. Each run is written as it ends into results/digits_methods_runs/, and is
not run again: a study that was stopped goes on. Writes digits_methods.json and .png into experiments/results/.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from digits_robustness import mean_and_spread
from small_runs import CLEAN, ECE, ECE_CORRUPTED, mean_corrupted, train_and_calibrate
from small_sweep import measure, parse

from apr_dali.augmentations.plan import TRAINABLE, form_here
from apr_dali.runtime.exit_status import run
from apr_dali.runtime.figures import new_figure
from apr_dali.runtime.files import write_whole


def _methods() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {name: {"aug": name} for name in ("none", "apr-p", "apr-s", "apr-sp", "augmix")}
    for name in TRAINABLE:
        if form_here(name, "cifar10") == "published":
            found[name] = {"aug": name}
        else:
            found[f"{name}, both views"] = {"aug": name, "aug_form": "both"}
    return found


METHODS = _methods()


def main() -> None:
    given = parse(__doc__, METHODS)
    runs = given.output / "digits_methods_runs"
    runs.mkdir(parents=True, exist_ok=True)
    given.methods = {name: {**options, "kept_in": str(runs)} for name, options in given.methods.items()}
    found, settings = measure(given, kept)
    text = json.dumps({**settings, "found": found}, indent=1) + "\n"
    write_whole(given.output / "digits_methods.json", text.encode())
    print(table(found))
    picture = given.output / "digits_methods.png"
    plot(found, picture)
    print(f"picture: {picture}")


def kept(given: dict[str, Any]) -> dict[str, float]:
    """`train_and_calibrate`, or what it gave before for the same options."""
    options = dict(given)
    folder, output = Path(options.pop("kept_in")), options.pop("output")
    settings = json.loads(json.dumps(options))
    name = "-".join(str(options.get(key, "published")) for key in ("aug", "aug_form", "epochs", "seed"))
    path = folder / f"{name}.json"
    if path.is_file():
        record = json.loads(path.read_text())
        if record["settings"] == settings:
            return dict(record["found"])
    found = train_and_calibrate({**options, "output": output})
    write_whole(path, (json.dumps({"settings": settings, "found": found}, indent=1) + "\n").encode())
    return found


def summary(result: dict[str, float]) -> dict[str, float]:
    """Error on clean images, over the corruptions, and both calibration errors, 0..1."""
    return {
        "clean": result[CLEAN],
        "corrupted": mean_corrupted(result),
        **{name: result[name] for name in (ECE, ECE_CORRUPTED)},
    }


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """In percent: mean and standard deviation over the seeds."""
    names = ("clean", "corrupted", ECE, ECE_CORRUPTED)
    lines = ["| % | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for method, results in found.items():
        rows = [summary(result) for result in results]
        cells = [mean_and_spread([row[name] for row in rows]) for name in names]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """A line of bars a method: error on clean and on corrupted images, and ECE under corruption."""
    figure = new_figure(8, 0.45 * len(found) + 1.2)
    axes = figure.subplots()
    names = ("clean", "corrupted", ECE_CORRUPTED)
    for n, name in enumerate(names):
        values = 100 * torch.tensor([[summary(result)[name] for result in results] for results in found.values()])
        spread = values.std(1).tolist() if values.shape[1] > 1 else None
        places = [k + 0.27 * (n - 1) for k in range(len(found))]
        label = name if name == ECE_CORRUPTED else f"error, {name}"
        axes.barh(places, values.mean(1).tolist(), 0.27, label=label, xerr=spread, error_kw={"linewidth": 0.8})
    axes.set_yticks(range(len(found)), list(found), fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set(xlabel="%", title="digits: each method on clean and on corrupted test images")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(run(main))
