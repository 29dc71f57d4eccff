"""What the operators cost on a CUDA device: our kernels against the published formula, torch, cuFFT and a plain copy.

    python benchmarks/gpu.py                          # a few minutes; writes benchmarks/results/<device>-<date>.json
    python benchmarks/gpu.py --skip-pipelines --json now.json

The rows of a table take turns for some rounds in one process and are timed by CUDA events; tables give medians. Bytes
are those that the kernels of a path must move, each array counted once for every time a kernel reads or writes it.
Feeding: a ResNet-50 step (bf16, channels last) on batches that lie ready, and on batches from a DALI pipeline.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import apr_dali
from apr_dali.backend import INTERMEDIATES
from apr_dali.bench import published
from apr_dali.bench.images import photographs, prepare
from apr_dali.config import IMAGENET, uses_pair, uses_single
from apr_dali.data.atomic import write_whole
from apr_dali.data.folders import ImageSet
from apr_dali.draws import SingleDraws
from apr_dali.kernels import cupy_backend, geometry
from apr_dali.kernels.cuda_device import CudaDevice

Row = Callable[[], Any]
Table = dict[str, dict[str, float]]
SHAPES = ((64, 224), (256, 224), (128, 32), (1024, 32))
AUGMENTATIONS = ("none", "apr-p", "apr-s", "apr-sp")
CALLS = 10
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
    copy = copy_speed(options.rounds)
    tables: dict[str, Table] = {}
    for batch, size in SHAPES:
        tables[f"APR-P {batch} × {size}²"] = with_speed(pair_rows(batch, size), batch, options.rounds, copy)
    for between in INTERMEDIATES:
        tables[f"APR-P 256 × 224², {between} between"] = kernel_table(256, 224, between, options.rounds, copy)
    for batch, size in SHAPES:
        tables[f"APR-S {batch} × {size}²"] = with_speed(single_rows(batch, size), batch, options.rounds, copy)
    if not options.skip_pipelines:
        tables |= pipeline_tables(options.batches)
    result = {"machine": machine(), "copy_bytes_per_second": copy, "rounds": options.rounds, "tables": tables}
    print(render(result))
    target = (
        Path(options.json) if options.json else RESULTS / f"{slug(result['machine']['device'])}-{date.today()}.json"
    )
    write_whole(target, (json.dumps(result, indent=1) + "\n").encode())
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="how often each row is measured (default: 20)")
    parser.add_argument("--batches", type=int, default=60, help="batches of a pipeline, steps (default: 60)")
    parser.add_argument("--skip-pipelines", action="store_true", help="measure the operators alone")
    parser.add_argument(
        "--json", metavar="FILE", help="write to FILE (default: benchmarks/results/<device>-<date>.json)"
    )
    return parser.parse_args()


# ---- Measuring ----


def events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


def in_turns(rows: dict[str, Row], rounds: int) -> dict[str, float]:
    """The median seconds of a call of each row."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 2):
        for name, run in rows.items():
            start, end = events()
            start.record()
            for _ in range(CALLS):
                run()
            end.record()
            end.synchronize()
            if turn >= 2:  # compilation, plans and buffers are behind
                times[name].append(start.elapsed_time(end) / 1e3 / CALLS)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def copy_speed(rounds: int) -> float:
    """Bytes a second that a copy of 1 GiB reads and writes on the device."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / in_turns({"copy": lambda: target.copy_(source)}, rounds)["copy"]


def with_speed(rows: dict[str, tuple[Row, float]], batch: int, rounds: int, copy: float) -> Table:
    """rows: what to run, and the bytes it must move (0: not counted). The first row is what others are compared to."""
    seconds = in_turns({name: run for name, (run, _) in rows.items()}, rounds)
    slowest = next(iter(seconds.values()))
    return {
        name: {
            "images/s": batch / taken,
            "× first": slowest / taken,
            "of copy": rows[name][1] / taken / copy,
        }
        for name, taken in seconds.items()
    }


# ---- Operators ----


def levels(batch: int, size: int) -> Tensor:
    """Smooth like photographs: noise has flat histograms."""
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1) * 255
    return fine.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cuda()


def pair_rows(batch: int, size: int) -> dict[str, tuple[Row, float]]:
    images = levels(batch, size)
    planes = images.permute(0, 3, 1, 2).float().div(255).contiguous()
    partner = torch.randperm(batch, dtype=torch.int32).cuda()
    index = partner.long()
    ours = {"in_scale": 1 / 255, "dtype": "float16", "backend": "cupy"}
    pixels = 3 * size * size
    spectrum = 8 * 3 * size * (size // 2 + 1)
    cufft = pixels * (1 + 4) + 2 * (4 * pixels + spectrum) + 3 * spectrum + pixels * (4 + 2)
    generic = forced("generic", lambda: apr_dali.pair(images, partner, **ours))
    rows: dict[str, tuple[Row, float]] = {
        "published": (lambda: published.pair(planes, index), 0),
        "torch rfftn": (lambda: apr_dali.pair(planes, index, backend="torch"), 0),
        "cuFFT path": (generic, batch * cufft),
        "own kernels": (lambda: apr_dali.pair(images, partner, **ours), batch * own_bytes(size, "float32")),
        "own kernels, both views": (lambda: apr_dali.pair(images, partner, views="both", **ours), 0),
    }
    if size in geometry.FUSED_SIZES:
        halved = ours | {"intermediates": "float16"}
        rows["own kernels, float16 between"] = (
            lambda: apr_dali.pair(images, partner, **halved),
            batch * own_bytes(size, "float16"),
        )
    return rows


def own_bytes(size: int, between: str) -> float:
    """Bytes an image that our own kernels move, uint8 to float16, with numbers of type `between` between them."""
    pixels = 3 * size * size
    if size in geometry.WHOLE_SIZES:
        return pixels * (1 + 1 + 2)
    return pixels * (1 + 2) + 5 * strips_bytes(size, between)


def strips_bytes(size: int, between: str) -> int:
    return {"float32": 8, "float16": 4}[between] * size * 4 * geometry.strips(size, across_channels=True)


def forced(path: str, run: Row) -> Row:
    """`run` with every recombination on one of the paths."""

    def call() -> None:
        chosen, geometry.path = geometry.path, lambda *_: path
        try:
            run()
        finally:
            geometry.path = chosen

    return call


def single_rows(batch: int, size: int) -> dict[str, tuple[Row, float]]:
    images, draws = levels(batch, size), SingleDraws.sample(batch, size, size, 0)
    uniform = torch.rand(batch, 8, device="cuda")

    def on_device() -> None:
        import cupy

        with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
            decoded = cupy_backend.decode(cupy.from_dlpack(uniform), size, size)
        apr_dali.single(images, decoded, backend="cupy")

    return {
        "torch": (lambda: apr_dali.single(images, draws, backend="torch"), 0),
        "own kernels": (lambda: apr_dali.single(images, draws, backend="cupy"), 0),
        "own kernels, drawn on the device": (on_device, 0),
    }


class TimedDevice(CudaDevice):
    """Notes the events around each launch."""

    launches: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []  # noqa: RUF012 - one measurement at a time

    def launch(self, program: Any, kernel: str, shape: Any, args: Sequence[Any]) -> None:
        start, end = events()
        start.record()
        super().launch(program, kernel, shape, args)
        end.record()
        self.launches.append((kernel, start, end))


@contextmanager
def timed_launches() -> Iterator[list[tuple[str, torch.cuda.Event, torch.cuda.Event]]]:
    usual, cupy_backend._device = cupy_backend._device, TimedDevice
    TimedDevice.launches.clear()
    try:
        yield TimedDevice.launches
    finally:
        cupy_backend._device = usual


def kernel_table(batch: int, size: int, between: str, rounds: int, copy: float) -> Table:
    """Each of the three kernels by itself, with intermediates of type `between`."""
    images, partner = levels(batch, size), torch.randperm(batch, dtype=torch.int32).cuda()
    with timed_launches() as launches:
        for turn in range(rounds + 2):
            if turn == 2:
                launches.clear()
            apr_dali.pair(images, partner, in_scale=1 / 255, dtype="float16", backend="cupy", intermediates=between)
        torch.cuda.synchronize()
        times: dict[str, list[float]] = {}
        for kernel, start, end in launches:
            times.setdefault(kernel, []).append(start.elapsed_time(end) / 1e3)
    pixels, spectrum = 3 * size * size, strips_bytes(size, between)
    moved = {"rows_forward": pixels + spectrum, "columns": 3 * spectrum, "rows_back": spectrum + 2 * pixels}
    medians = {kernel: statistics.median(seconds) for kernel, seconds in times.items()}
    return {
        kernel: {"images/s": batch / taken, "of copy": batch * moved[kernel] / taken / copy}
        for kernel, taken in medians.items()
    }


# ---- Pipelines ----


def decoded_pipeline(aug: str, batch: int, size: int) -> Any:
    """A graph as the ImageNet one, from images that lie decoded in the device's memory."""
    from nvidia.dali import fn, pipeline_def
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    from apr_dali.pipelines import imagenet, operators

    given = levels(batch, size)

    @pipeline_def(batch_size=batch, num_threads=4, device_id=torch.cuda.current_device(), seed=1)
    def graph() -> Any:
        images = fn.external_source(lambda: given, device="gpu", layout="HWC", batch=True)
        if uses_single(aug):
            images = operators.apr_single(images)
        if uses_pair(aug):
            return operators.apr_pair(images, **imagenet.pair_scales(IMAGENET), dtype="float16")
        return imagenet.normalise(images, IMAGENET, "float16")

    for (output,) in DALIGenericIterator(graph(), ["images"]):
        yield output["images"].flatten(0, -4)


def jpeg_loader(aug: str, images: ImageSet, batch: int) -> Iterator[Tensor]:
    with apr_dali.ImageNetLoader(
        images, batch, aug, device="gpu", dtype="float16", drop_last=True, threads=8
    ) as loader:
        while True:
            for views, _ in loader:
                yield views


def images_per_second(batches: Iterator[Tensor], batch: int, count: int) -> float:
    for _ in range(5):
        next(batches)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    torch.cuda.synchronize()
    return batch * count / (time.perf_counter() - start)


def pipeline_tables(count: int, batch: int = 256) -> dict[str, Table]:
    tables: dict[str, Table] = {"DALI from JPEGs": {}, "DALI from decoded images": {}}
    with tempfile.TemporaryDirectory() as name:
        images = photographs(prepare(Path(name), None).folder)
        for aug in AUGMENTATIONS:
            sources = (jpeg_loader(aug, images, batch), decoded_pipeline(aug, batch, 224))
            for table, batches in zip(tables.values(), sources, strict=True):
                speed = images_per_second(batches, batch, count)
                table[aug] = {"images/s": speed, "of none": speed / table.get("none", {"images/s": speed})["images/s"]}
    return {**tables, "ResNet-50 step": step_table(count, batch)}


def step_table(count: int, batch: int) -> Table:
    """A step on batches from a pipeline beside the same step on a batch that lies ready."""
    model = apr_dali.models.create_model("resnet50", 1000).cuda().to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(images: Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(images.to(memory_format=torch.channels_last))
            loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(images), dtype=torch.long, device="cuda"))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    def seconds(batches: Iterator[Tensor]) -> float:
        for _ in range(5):
            step(next(batches))
        times = []
        torch.cuda.synchronize()
        for _ in range(count):
            start, end = events()
            start.record()
            step(next(batches))
            end.record()
            times.append((start, end))
        torch.cuda.synchronize()
        return statistics.median(start.elapsed_time(end) for start, end in times) / 1e3

    table: Table = {}
    for aug in AUGMENTATIONS:
        source = decoded_pipeline(aug, batch, 224)
        ready = next(source).clone()
        alone = seconds(ready for _ in range(count + 5))
        fed = seconds(source)
        # What any pipeline costs the step is in the row without augmentation.
        table[aug] = {"step ms": fed * 1e3, "ready ms": alone * 1e3, "feeding adds": fed / alone - 1}
    return table


# ---- The result ----


def machine() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    packages = ("torch", "numpy", "apr_dali")
    import cupy
    from nvidia import dali

    return {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "python": platform.python_version(),
        "cupy": cupy.__version__,
        "dali": dali.__version__,
        **{name: version(name) for name in packages},
    }


def slug(device: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")


def goals(tables: dict[str, Table]) -> list[tuple[str, float, float]]:
    """What is aimed for on an H200, of what was measured: (what, measured, at least)."""
    pair, kernels = tables["APR-P 256 × 224²"], tables["APR-P 256 × 224², float32 between"]
    found = [
        ("APR-P, images/s", pair["own kernels"]["images/s"], 500_000),
        ("APR-P, × published", pair["own kernels"]["× first"], 10),
        ("rows forward, of copy", kernels["rows_forward"]["of copy"], 0.6),
        ("rows back, of copy", kernels["rows_back"]["of copy"], 0.6),
        ("APR-S, images/s", tables["APR-S 256 × 224²"]["own kernels"]["images/s"], 300_000),
    ]
    if "ResNet-50 step" in tables:
        step = tables["ResNet-50 step"]
        for name in ("DALI from JPEGs", "DALI from decoded images"):
            found.append((f"{name}, apr-sp of none", tables[name]["apr-sp"]["of none"], 0.98))
        # Less is better: what is left of 1 after APR's own share, feeding alone taken off.
        own = step["apr-sp"]["feeding adds"] - step["none"]["feeding adds"]
        found.append(("step without APR's own cost", 1 - own, 0.995))
    return found


def render(result: dict[str, Any]) -> str:
    about = result["machine"]
    lines = [f"{about['device']}, torch {about['torch']}, CuPy {about['cupy']}, DALI {about['dali']}"]
    lines.append(f"a copy moves {result['copy_bytes_per_second'] / 1e12:.2f} TB/s; medians of {result['rounds']}")
    for title, rows in result["tables"].items():
        columns = list(next(iter(rows.values())))
        lines += ["", f"{title:<36}" + "".join(f"{column:>14}" for column in columns)]
        for name, row in rows.items():
            cells = "".join(f"{cell(column, row[column]):>14}" for column in columns)
            lines.append(f"  {name:<34}{cells}")
    lines += ["", f"{'Goals on an H200':<36}{'measured':>14}{'goal':>14}"]
    lines += [f"  {name:<34}{value:>14,.3f}{least:>14,.3f}" for name, value, least in goals(result["tables"])]
    return "\n".join(lines)


def cell(column: str, value: float) -> str:
    if column.startswith(("of ", "feeding")):
        return f"{value:.1%}" if value else "-"
    return f"{value:,.0f}" if column == "images/s" else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
