"""What the augmentations beside APR cost on this machine's CPU, as ratios to native APR-P in the same run.

    OMP_NUM_THREADS=2 python benchmarks/augmentations.py --json augmentations.json

float32 images (N, 3, S, S) in 0..1, draws given, both backends; rows take turns as in `cpu.py`. Goals: amplitude mix,
FDA, hybrid++-p and vipaug-g at most 1.3, AFA at most 0.5, PRIME 5 times as fast as its form in torch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cpu import Row, in_turns, machine

import apr_dali
from apr_dali.augmentations import apply, find

SIZES = {"32×3×224²": (32, 224, "imagenet"), "128×3×32²": (128, 32, "cifar10")}
NATIVE = ("amplitude-mix", "fda", "hybrid-p", "hybrid++-p", "afa", "amplitude-rescale", "prime")
OF_LEVELS = ("vipaug-g", "hybrid-s", "hybrid++-s")
REFERENCE = "apr-p"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=2, help="threads of every row (default: 2)")
    parser.add_argument("--rounds", type=int, default=9, help="how often each row is measured (default: 9)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers to FILE too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tables = {
        title: in_turns(rows(batch, size, dataset, options.threads), batch, options.rounds)
        for title, (batch, size, dataset) in SIZES.items()
    }
    result = {"machine": machine(options), "ms_per_image": tables}
    print(render(result))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


def rows(batch: int, size: int, dataset: str, threads: int) -> dict[str, Row]:
    rng = np.random.default_rng(0)
    levels = torch.from_numpy(rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8))
    tensor, partner = levels.permute(0, 3, 1, 2).contiguous() / 255, rng.permutation(batch)
    images = tensor.numpy()

    def row(name: str, given: Any, **how: Any) -> Row:
        draws = changing_draws(name, batch, size, dataset)
        return lambda: apply(name, given, draws, **how)

    native = {"backend": "native", "threads": threads}
    result: dict[str, Row] = {REFERENCE: lambda: apr_dali.pair(images, partner, **native)}
    result |= {f"{name}, native": row(name, images, **native) for name in NATIVE}
    result |= {f"{name}, torch": row(name, tensor, backend="torch") for name in (*NATIVE, "randconv")}
    result["vipaug-g of uint8, native"] = row("vipaug-g", levels.numpy(), **native)
    return result | {f"{name} of uint8, torch": row(name, levels, backend="torch") for name in OF_LEVELS}


def changing_draws(name: str, batch: int, size: int, dataset: str) -> Any:
    """The draws of the first seed whose coins do not leave the batch as it is."""
    for seed in range(100):
        draws = find(name).sample(batch, size, size, seed, dataset=dataset)
        low = getattr(draws, "low", None)
        if getattr(draws, "mix", True) is not False and getattr(low, "mix", True) is not False:
            return draws
    raise RuntimeError(f"no seed of 100 has {name} change anything")


def render(result: dict[str, Any]) -> str:
    about = result["machine"]
    lines = [f"{about['processor']}, {about['threads']} threads, native is {about['level']}, torch {about['torch']}"]
    for title, times in result["ms_per_image"].items():
        lines += ["", f"{title:<30}{'ms per image':>14}{'of APR-P':>10}"]
        lines += [f"  {name:<28}{ms:>14.4f}{ms / times[REFERENCE]:>10.2f}" for name, ms in times.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
