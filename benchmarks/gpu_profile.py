"""The counters of Nsight Compute for our CUDA kernels, a launch each on a batch of 256 images of 224².

PYTHONPATH=. python benchmarks/gpu_profile.py                    # needs ncu and the right to read its counters
PYTHONPATH=. python benchmarks/gpu_profile.py --batch 64 --size 128 --kernels 'rows_forward|columns'
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import subprocess
import sys

METRICS = {
    "time": "gpu__time_duration.sum",
    "SM throughput, %": "sm__throughput.avg.pct_of_peak_sustained_elapsed",
    "issue slots busy, %": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "device memory, %": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "read from device memory, bytes": "dram__bytes_read.sum",
    "written to device memory, bytes": "dram__bytes_write.sum",
    "L2 throughput, %": "lts__throughput.avg.pct_of_peak_sustained_elapsed",
    "L1 throughput, %": "l1tex__throughput.avg.pct_of_peak_sustained_elapsed",
    "warp instructions": "smsp__inst_executed.sum",
    "shared-memory passes": "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum",
    "of them for bank conflicts": "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum",
    "achieved occupancy, %": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "registers per thread": "launch__registers_per_thread",
    "local memory, instructions": "smsp__inst_executed_op_local.sum",
    **{
        f"stall: {reason}": f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio"
        for reason in (
            *("long_scoreboard", "short_scoreboard", "barrier", "lg_throttle", "mio_throttle", "math_pipe_throttle"),
            *("wait", "not_selected", "dispatch_stall", "branch_resolving", "no_instruction", "drain", "membar"),
        )
    },
}


def main() -> int:
    options = parse()
    if options.once:
        run_once(options.batch, options.size)
        return 0
    if shutil.which("ncu") is None:
        print("benchmarks/gpu_profile.py needs ncu, NVIDIA Nsight Compute's command", file=sys.stderr)
        return 2
    given = [sys.executable, __file__, "--once", "--batch", str(options.batch), "--size", str(options.size)]
    command = ["ncu", "--csv", "--page", "raw", "--clock-control", "none", "--metrics", ",".join(METRICS.values())]
    # The second launch of each: the first one's memory is fresh.
    chosen = ["--kernel-id", f"::regex:^({options.kernels})$:2"]
    done = subprocess.run([*command, *chosen, *given], capture_output=True, text=True, check=False)
    if done.returncode != 0 or '"ID"' not in done.stdout:
        print(done.stdout + done.stderr, file=sys.stderr)
        return 1
    print(table(done.stdout))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--kernels", default="rows_forward|columns|rows_back|whole_images|operate")
    parser.add_argument("--once", action="store_true", help="only run the kernels, for a profiler to look at")
    return parser.parse_args()


def run_once(batch: int, size: int) -> None:
    import torch
    from gpu_timing import levels

    import apr_dali
    from apr_dali.draws import SingleDraws

    images, partner = levels(batch, size), torch.randperm(batch, dtype=torch.int32).cuda()
    for _ in range(3):
        apr_dali.pair(images, partner, in_scale=1 / 255, dtype="float16", backend="cupy")
    apr_dali.single(images, SingleDraws.sample(batch, size, size, 0), backend="cupy")
    apr_dali.single(images, SingleDraws.sample(batch, size, size, 0), backend="cupy")
    torch.cuda.synchronize()


def table(text: str) -> str:
    """ncu's raw page as a column for each launch."""
    rows = list(csv.reader(io.StringIO(text[text.index('"ID"') :])))
    header, units, *launches = rows
    names = [launch[header.index("Kernel Name")] for launch in launches]
    lines = [f"{'':<34}" + "".join(f"{name.partition('(')[0]:>16}" for name in names)]
    for title, metric in METRICS.items():
        if metric in header:
            column = header.index(metric)
            unit = f" {units[column]}" if units[column] and "," not in title else ""
            lines.append(f"{title + unit:<34}" + "".join(f"{launch[column]:>16}" for launch in launches))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
