"""ImageNet-C's 19 corruptions and C-bar's 10 × 5 severities: how far from the reference, how long on one core.

    python benchmarks/corruptions.py                    # prints the tables; start it on an idle machine
    python benchmarks/corruptions.py --write            # and puts them into docs/corruptions.md
    python benchmarks/corruptions.py --count 2 --only fog snow

The differences are those of the truth (NumPy, SciPy) with the reference's draws, on two photographs of 224 × 224 (C-bar
on one), and of the native operators from the truth with draws of their own. The times are CPU time, draws included, one
thread; the library is imagecorruptions-imaug, where it is installed. C-bar is neither native nor in it. The third table
is of the JPEG file of quality 85 that evaluation takes every image through: the native operator, and Pillow's encoder
and decoder.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import re
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

import apr_dali
from apr_dali.corruptions import C_BAR, CORRUPTIONS, NAMES
from apr_dali.corruptions.parameters import SEVERITIES
from apr_dali.data.imagenet_c import QUALITY, as_jpeg, through_jpeg
from apr_dali.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "corruptions.md"
PHOTOGRAPHS = ("chelsea", "china")
ALL = (*NAMES, *C_BAR)
SIDE = 224
MIDDLE = 3
"""The severity at which the slower code is timed as well."""

Cells = dict[str, list[float]]


def main() -> None:
    options = parse()
    sys.path.insert(0, str(ROOT / "tests"))
    names = options.only or ALL
    result = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "images": options.count,
        "differences": differences(names),
        "milliseconds": speeds(names, options.count),
        "files": files(options.count),
    }
    tables = {
        "differences": table_of_differences(result),
        "speeds": table_of_speeds(result),
        "files": table_of_files(result),
    }
    print("\n\n".join(tables.values()))
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    if options.write:
        write(tables)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20, metavar="N", help="images per cell (20)")
    parser.add_argument("--only", nargs="*", choices=ALL, metavar="NAME", help="these corruptions")
    parser.add_argument("--json", metavar="FILE", help="write what was measured to FILE too")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/corruptions.md")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write needs all corruptions: leave out --only")
    return options


def photographs() -> np.ndarray:
    from helpers.reference_cells import photograph

    return np.stack([photograph(name, SIDE) for name in PHOTOGRAPHS])


def differences(names: tuple[str, ...]) -> dict[str, dict[str, Cells]]:
    """For truth and native, each corruption and severity: the largest and the mean difference in gray levels."""
    out: dict[str, dict[str, Cells]] = {"truth": {}, "native": {}}
    for name in names:
        truth = [from_reference(name, severity) for severity in SEVERITIES]
        native = [from_truth(name, severity) for severity in SEVERITIES]
        for kind, found in (("truth", truth), ("native", native)):
            out[kind][name] = {"max": [each[0] for each in found], "mean": [each[1] for each in found]}
    return out


def from_reference(name: str, severity: int) -> tuple[float, float]:
    """Of the truth from the reference; where the whole is not equal, the kept piece of it is measured."""
    from helpers.reference_cells import SHOWN, is_the_reference, piece_of, seed_of

    apart = [np.zeros(1)]
    kept = PHOTOGRAPHS[:1] if name in C_BAR else PHOTOGRAPHS
    for image, pixels in zip(kept, photographs(), strict=False):
        seed = seed_of(image, name, severity)
        random = np.random.default_rng(seed) if name == "impulse_noise" else np.random.RandomState(seed)
        draws = apr_dali.CorruptionDraws.from_reference(name, severity, SIDE, SIDE, random)
        got = apr_dali.corrupt(pixels[None], name, severity, draws, backend="numpy")[0]
        if not is_the_reference(got, image, name, severity):
            apart.append(np.abs(got[SHOWN].astype(int) - piece_of(image, name, severity)).reshape(-1))
    levels = np.concatenate(apart)
    return float(levels.max()), float(levels.mean())


def from_truth(name: str, severity: int) -> tuple[float, float]:
    images = photographs()
    try:
        native = once(name, severity, images, "native")
    except (InputError, RuntimeError):
        return float("nan"), float("nan")
    apart = np.abs(native.astype(int) - once(name, severity, images, "numpy"))
    return float(apart.max()), float(apart.mean())


def once(name: str, severity: int, images: np.ndarray, backend: str, first: int = 0) -> np.ndarray:
    draws = apr_dali.CorruptionDraws.sample(name, severity, len(images), SIDE, SIDE, seed=0, first=first)
    return apr_dali.corrupt(images, name, severity, draws, backend=backend, threads=1 if backend == "native" else None)


def speeds(names: tuple[str, ...], count: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds an image: native at every severity; truth and library at the middle one."""
    images = np.stack([photographs()[k % 2] for k in range(count)])
    out: dict[str, dict[str, list[float]]] = {"native": {}, "truth": {}, "library": {}}
    for name in names:
        few = images[: max(1, count // 10)]
        out["native"][name] = [timed(partial(once, name, s, images, "native"), count) for s in SEVERITIES]
        out["truth"][name] = [timed(partial(once, name, MIDDLE, few, "numpy"), len(few))]
        out["library"][name] = [timed(partial(by_library, name, few), len(few))]
        print(f"{name:<18}{out['native'][name][MIDDLE - 1]:>8.2f} ms", file=sys.stderr, flush=True)
    return out


def by_library(name: str, images: np.ndarray) -> None:
    if name in C_BAR or find_spec("imagecorruptions") is None:
        raise RuntimeError(f"imagecorruptions-imaug is not installed, or has no {name}")
    import cv2
    from imagecorruptions import corrupt

    cv2.setNumThreads(1)
    for image in images:
        corrupt(image, severity=MIDDLE, corruption_name=name)


def files(count: int) -> dict[str, float]:
    """Milliseconds an image through a JPEG file, or what it does."""
    images = np.stack([photographs()[k % 2] for k in range(count)])

    def pillow() -> None:
        for image in images:
            Image.open(io.BytesIO(as_jpeg(image))).load()

    return {"native": timed(partial(through_jpeg, images, threads=1), count), "Pillow": timed(pillow, count)}


def timed(run: Callable[[], object], images: int) -> float:
    """Milliseconds of CPU time an image, the best of three; NaN where it cannot run."""
    try:
        run()  # what is made once is made
    except (InputError, RuntimeError):
        return float("nan")
    best = float("inf")
    for _ in range(3):
        before = time.process_time()
        run()
        best = min(best, time.process_time() - before)
    return best / images * 1e3


def table_of_differences(result: dict) -> str:
    rows = ["| | truth from the reference | native from the truth |", "|---|---|---|"]
    for name in result["differences"]["truth"]:
        cells = [shown_differences(result["differences"][kind][name]) for kind in ("truth", "native")]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def shown_differences(cells: Cells) -> str:
    pairs = zip(cells["max"], cells["mean"], strict=True)
    return ", ".join(
        "–" if np.isnan(most) else "0" if most == 0 else f"{most:.0f} ({mean:.0e})" for most, mean in pairs
    )


def table_of_speeds(result: dict) -> str:
    times = result["milliseconds"]
    rows = ["| | native, severity 1 to 5 | truth, 3 | library, 3 |", "|---|---|---|---|"]
    for name in times["native"]:
        native = " ".join(milliseconds(value) for value in times["native"][name])
        rows.append(
            f"| {name} | {native} | {milliseconds(*times['truth'][name])} | {milliseconds(*times['library'][name])} |"
        )
    if set(CORRUPTIONS) <= set(times["native"]):
        sums = [sum(times["native"][name][k] for name in CORRUPTIONS) for k in range(len(SEVERITIES))]
        others = [sum(times[kind][name][0] for name in CORRUPTIONS) for kind in ("truth", "library")]
        rows.append(
            f"| the 15 together | {' '.join(map(milliseconds, sums))} | {' | '.join(map(milliseconds, others))} |"
        )
    return "\n".join(rows)


def table_of_files(result: dict) -> str:
    times = result["files"]
    rows = [f"| | {' | '.join(times)} |", f"|{'---|' * (1 + len(times))}"]
    return "\n".join([*rows, f"| quality {QUALITY} | {' | '.join(map(milliseconds, times.values()))} |"])


def milliseconds(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def write(tables: dict[str, str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, found = place.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", text)
        if found != 1:
            raise SystemExit(f"{PAGE} has no place for the table of {name}")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
