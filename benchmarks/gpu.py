"""What APR costs on a CUDA device: the operators, the DALI pipelines, and a ResNet-50 step that is fed by them.

The operators are APR's, the augmentations beside it, and ImageNet-C's corruptions, these beside the native ones on the
CPUs of the machine.

    python benchmarks/gpu.py                          # a few minutes; writes benchmarks/results/<device>-<date>.json
    PYTHONPATH=. python benchmarks/gpu.py --operators # without DALI, from a bare copy of the tree
    python benchmarks/gpu.py --pipelines --json now.json

The rows of a table take turns for some rounds in one process and are timed by CUDA events; tables give medians. Bytes
are those that the kernels of a path must move, each array counted once for every time a kernel reads or writes it;
"of copy" compares their rate with that of a plain copy, "of issue" the instructions with what the schedulers can start.
Feeding: a ResNet-50 step (bf16, channels last) on batches that lie ready, and on batches from a DALI pipeline.

Each table is printed and the file written anew as soon as the table is there; one that fails is noted with its error
and the others follow. The exit status is 1 then.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import traceback
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gpu_augmentations
import gpu_corruptions
import gpu_operators
import torch
from gpu_timing import Table, copy_speed

import apr_dali
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.runtime.files import write_whole

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    options = parse()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py needs a CUDA device that torch can use: see `apr-dali doctor`", file=sys.stderr)
        return 2
    usable, reason = cupy_backend.check()
    if not usable:
        print(f"benchmarks/gpu.py needs the cupy backend, which cannot run here: {reason}", file=sys.stderr)
        return 2
    about = machine()
    print(about_lines(about), flush=True)
    copy = copy_speed(options.rounds)
    print(f"a copy moves {copy / 1e12:.2f} TB/s; medians of {options.rounds}", flush=True)
    result: dict[str, Any] = {
        "machine": about,
        "copy_bytes_per_second": copy,
        "rounds": options.rounds,
        "tables": {},
        "failed": {},
    }
    target = Path(options.json) if options.json else RESULTS / f"{slug(about['device'])}-{date.today()}.json"
    measure(planned(options, copy), result, target)
    print(render_goals(goals(result["tables"], about["device"])), flush=True)
    for title in result["failed"]:
        print(f"failed: {title}", flush=True)
    return 1 if result["failed"] else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--operators", action="store_true", help="measure the operators alone, without DALI")
    part.add_argument("--pipelines", action="store_true", help="measure the pipelines and the training step alone")
    parser.add_argument("--rounds", type=int, default=20, help="how often each row is measured (default: 20)")
    parser.add_argument("--batches", type=int, default=60, help="batches of a pipeline, steps (default: 60)")
    parser.add_argument(
        "--json", metavar="FILE", help="write to FILE (default: benchmarks/results/<device>-<date>.json)"
    )
    return parser.parse_args()


def planned(options: argparse.Namespace, copy: float) -> dict[str, Callable[[], Table]]:
    """What to measure, by title."""
    found: dict[str, Callable[[], Table]] = {}
    if not options.pipelines:
        for module in (gpu_operators, gpu_augmentations, gpu_corruptions):
            found |= module.tables(options.rounds, copy)
    if not options.operators:
        import gpu_pipelines  # knows DALI

        found |= gpu_pipelines.tables(options.batches)
    return found


def measure(tables: dict[str, Callable[[], Table]], result: dict[str, Any], target: Path) -> None:
    """Fill the tables of `result`, and what failed; print and write each at once."""
    for title, make in tables.items():
        try:
            result["tables"][title] = make()
            print("\n" + render_table(title, result["tables"][title]), flush=True)
        except Exception:  # noqa: BLE001 - the others are still wanted: time on a device is short
            result["failed"][title] = traceback.format_exc()
            print(f"\n{title}\n{result['failed'][title]}", flush=True)
        write_whole(target, (json.dumps(result, indent=1) + "\n").encode())


# ---- The result ----


def machine() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    import cupy

    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "issue_per_second": gpu_operators.issue_rate(),
        "cuda": torch.version.cuda,
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "cupy": cupy.__version__,
        "dali": dali_version(),
        "apr_dali": apr_dali.__version__,
    }


def dali_version() -> str:
    for build in ("nvidia-dali-cuda120", "nvidia-dali-cuda130"):
        try:
            return version(build)
        except PackageNotFoundError:
            continue
    return "not installed"


def slug(device: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def goals(tables: dict[str, Table], device: str) -> list[tuple[str, float, float]]:
    """What is aimed for, as far as it was measured: (what, measured, at least). Rates are an H100's."""
    # An H200 moves 1.4 times as many bytes.
    faster = 1.4 if "H200" in device else 1.0
    wanted = [
        ("APR-P, images/s", ("APR-P 256 × 224²", "own kernels", "images/s"), 500_000 * faster),
        ("APR-P, × published", ("APR-P 256 × 224²", "own kernels", "× first"), 10),
        ("APR-S, images/s", ("APR-S 256 × 224²", "own kernels", "images/s"), 300_000 * faster),
        ("apr-sp of none, from JPEGs", ("DALI from JPEGs, decoder load 0.65", "apr-sp", "of none"), 0.98),
        ("apr-sp of none, decoded", ("DALI from decoded images", "apr-sp", "of none"), 0.98),
    ]
    found = [
        (what, tables[title][row][column], least) for what, (title, row, column), least in wanted if title in tables
    ]
    # Either what it moves or what it calculates is the limit of a kernel.
    for kernel, row in tables.get("APR-P 256 × 224², float32 between", {}).items():
        found.append((f"{kernel}, of its limit", max(row["of copy"], row["of issue"]), 0.6))
    if "ResNet-50 step" in tables:
        step = tables["ResNet-50 step"]
        # Less is better: what is left of 1 after APR's own share, feeding alone taken off.
        own = step["apr-sp"]["feeding adds"] - step["none"]["feeding adds"]
        found.append(("step without APR's own cost", 1 - own, 0.995))
    return found


def about_lines(about: dict[str, Any]) -> str:
    return f"{about['device']}, torch {about['torch']}, CuPy {about['cupy']}, DALI {about['dali']}"


def render_table(title: str, rows: Table) -> str:
    columns = list(next(iter(rows.values())))
    lines = [f"{title:<36}" + "".join(f"{column:>14}" for column in columns)]
    for name, row in rows.items():
        lines.append(f"  {name:<34}" + "".join(f"{cell(column, row[column]):>14}" for column in columns))
    return "\n".join(lines)


def render_goals(found: list[tuple[str, float, float]]) -> str:
    lines = [f"\n{'Goals':<36}{'measured':>14}{'goal':>14}"]
    return "\n".join(lines + [f"  {name:<34}{value:>14,.3f}{least:>14,.3f}" for name, value, least in found])


def cell(column: str, value: float) -> str:
    if column.startswith(("of ", "feeding")):
        return f"{value:.1%}" if value else "-"
    return f"{value:,.0f}" if column == "images/s" else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
