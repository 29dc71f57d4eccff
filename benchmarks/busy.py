"""Training beside other processes: images per second of the ImageNet trainer, idle and on a machine that others use.

    python benchmarks/busy.py                                    # both networks, as the trainer sets itself up
    python benchmarks/busy.py --settings "OMP_WAIT_POLICY=passive" "OMP_NUM_THREADS=1" "GOMP_SPINCOUNT=300000"

Each run trains on the built-in sample for some epochs, on the CPU, beside 0, 1 or 4 processes that burn a core each.
A setting is variables of the environment, which the trainer's own choice yields to. Start it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = {
    "the demo's": ["--model", "shufflenet_v2_x0_5", "--image-size", "64", "--batch-size", "32", "--epochs", "4"],
    "ResNet-18, 224": ["--model", "resnet18", "--image-size", "224", "--batch-size", "32", "--epochs", "1"],
}
BURNERS = (0, 1, 4)
RATE = re.compile(r"(\d+) training images/s")


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        sample = Path(folder) / "sample"
        subprocess.run([sys.executable, "-m", "apr_dali", "sample", str(sample)], cwd=ROOT, check=True)
        found = {}
        for network, arguments in NETWORKS.items():
            for setting in ("", *options.settings):
                rates = [rate(arguments, setting, count, sample, Path(folder)) for count in BURNERS]
                found[f"{network}: {setting or 'as it is'}"] = rates
                shown = "".join(f"{value:>8.0f} ({value / rates[0]:>4.0%})" for value in rates)
                print(f"{network:<16}{setting or 'as it is':<28}{shown}", flush=True)
    if options.json:
        result = {"burning_processes": BURNERS, "images_per_second": found, "cpus": os.cpu_count()}
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--settings", nargs="*", default=[], metavar="NAME=VALUE,…", help="to be measured beside it")
    parser.add_argument("--json", metavar="FILE", help="write the rates to FILE too")
    return parser.parse_args()


def rate(arguments: list[str], setting: str, burning: int, sample: Path, folder: Path) -> float:
    """Training images per second beside `burning` processes."""
    command = [sys.executable, "train_imagenet.py", "--data", str(sample), "--aug", "apr-sp", "--device", "cpu"]
    command += ["--lr", "0.01", "--output", tempfile.mkdtemp(dir=folder), *arguments]
    given = dict(pair.split("=", 1) for pair in setting.split(",") if pair)
    with burners(burning):
        done = subprocess.run(command, cwd=ROOT, env=os.environ | given, capture_output=True, text=True, check=False)
    found = RATE.search(done.stdout)
    if found is None:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return float(found[1])


@contextmanager
def burners(count: int) -> Iterator[None]:
    """Processes that do nothing but take a core each."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
