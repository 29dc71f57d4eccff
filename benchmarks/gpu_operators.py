"""What the operators cost on a CUDA device, beside the published formula, torch, cuFFT and a plain copy. No DALI."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gpu_timing
import torch
from gpu_timing import Row, Table, events, levels

import apr_dali
from apr_dali.bench import published_code
from apr_dali.draws import SingleDraws
from apr_dali.functional import INTERMEDIATES
from apr_dali.kernels.cuda import backend as cupy_backend
from apr_dali.kernels.cuda import launch
from apr_dali.kernels.cuda.device import CudaDevice

SHAPES = ((64, 224), (256, 224), (128, 32), (1024, 32))
OF_KERNELS = (256, 224)
WARP_INSTRUCTIONS = {"rows_forward": 153_000, "columns": 307_000, "rows_back": 148_000, "before": 116_000}
"""Per image of 224² from uint8 to float16, counted by running the compiled kernels on the PTX simulator."""


def tables(rounds: int, copy: float) -> dict[str, Callable[[], Table]]:
    """What can be measured, by title. copy: the bytes per second of a plain copy."""
    found: dict[str, Callable[[], Table]] = {}
    for batch, size in SHAPES:
        found[f"APR-P {batch} × {size}²"] = lambda b=batch, s=size: with_speed(pair_rows(b, s), b, rounds, copy)
        found[f"APR-S {batch} × {size}²"] = lambda b=batch, s=size: with_speed(single_rows(b, s), b, rounds, copy)
    batch, size = OF_KERNELS
    for between in INTERMEDIATES:
        title = f"APR-P {batch} × {size}², {between} between"
        found[title] = lambda between=between: kernel_table(batch, size, between, rounds, copy)
    return found


def with_speed(rows: dict[str, tuple[Row, float]], batch: int, rounds: int, copy: float) -> Table:
    """rows: what to run, and the bytes it must move (0: not counted). The first row is what others are compared to."""
    seconds = gpu_timing.in_turns({name: run for name, (run, _) in rows.items()}, rounds)
    slowest = next(iter(seconds.values()))
    return {
        name: {
            "images/s": batch / taken,
            "× first": slowest / taken,
            "of copy": rows[name][1] / taken / copy,
        }
        for name, taken in seconds.items()
    }


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
        "published": (lambda: published_code.pair(planes, index), 0),
        "torch rfftn": (lambda: apr_dali.pair(planes, index, backend="torch"), 0),
        "cuFFT path": (generic, batch * cufft),
        "own kernels": (lambda: apr_dali.pair(images, partner, **ours), batch * own_bytes(size, "float32")),
        "own kernels, both views": (lambda: apr_dali.pair(images, partner, with_clean=True, **ours), 0),
    }
    if size in launch.FUSED_SIZES:
        halved = ours | {"intermediates": "float16"}
        rows["own kernels, float16 between"] = (
            lambda: apr_dali.pair(images, partner, **halved),
            batch * own_bytes(size, "float16"),
        )
    return rows


def own_bytes(size: int, between: str) -> float:
    """Bytes an image that our own kernels move, uint8 to float16, with numbers of type `between` between them."""
    pixels = 3 * size * size
    if size in launch.WHOLE_SIZES:
        return pixels * (1 + 1 + 2)
    return pixels * (1 + 2) + 5 * strips_bytes(size, between)


def strips_bytes(size: int, between: str, *, across_channels: bool = True) -> int:
    return {"float32": 8, "float16": 4}[between] * size * 4 * launch.strips(size, across_channels)


def forced(path: str, run: Row) -> Row:
    """`run` with every recombination on one of the paths."""

    def call() -> None:
        chosen, launch.path = launch.path, lambda *_: path
        try:
            run()
        finally:
            launch.path = chosen

    return call


def single_rows(batch: int, size: int) -> dict[str, tuple[Row, float]]:
    images, draws = levels(batch, size), SingleDraws.sample(batch, size, size, 0)
    uniform = torch.rand(batch, 8, device="cuda")

    def on_device() -> None:
        import cupy

        with cupy.cuda.Stream.from_external(torch.cuda.current_stream()):
            decoded = cupy_backend.decode(cupy.from_dlpack(uniform), size, size)
        apr_dali.single(images, decoded, backend="cupy")

    return {
        "torch": (lambda: apr_dali.single(images, draws, backend="torch"), 0),
        "own kernels": (lambda: apr_dali.single(images, draws, backend="cupy"), 0),
        "own kernels, drawn on the device": (on_device, 0),
    }


class TimedLaunches:
    """Notes the events around each launch of the device that it is mixed with."""

    launches: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []  # noqa: RUF012 - one measurement at a time

    def launch(self, program: Any, kernel: str, shape: Any, args: Sequence[Any]) -> None:
        start, end = events()
        start.record()
        super().launch(program, kernel, shape, args)  # type: ignore[misc]
        end.record()
        self.launches.append((kernel, start, end))


class TimedDevice(TimedLaunches, CudaDevice):
    pass


@contextmanager
def timed_launches() -> Iterator[list[tuple[str, torch.cuda.Event, torch.cuda.Event]]]:
    usual, cupy_backend._device = cupy_backend._device, TimedDevice
    TimedLaunches.launches.clear()
    try:
        yield TimedLaunches.launches
    finally:
        cupy_backend._device = usual


def kernel_table(batch: int, size: int, between: str, rounds: int, copy: float) -> Table:
    """Each of the three kernels by itself, with intermediates of type `between`; and `before`, both views unmixed."""
    images, partner = levels(batch, size), torch.randperm(batch, dtype=torch.int32).cuda()
    ours: dict[str, Any] = {"in_scale": 1 / 255, "dtype": "float16", "backend": "cupy"}
    with timed_launches() as launches:
        for turn in range(rounds + 2):
            if turn == 2:
                launches.clear()
            for mix in (True, False):
                apr_dali.pair(images, partner, mix, with_clean=not mix, intermediates=between, **ours)
        torch.cuda.synchronize()
        times: dict[str, list[float]] = {}
        for kernel, start, end in launches:
            times.setdefault(kernel, []).append(start.elapsed_time(end) / 1e3)
    pixels, spectrum = 3 * size * size, strips_bytes(size, between)
    moved = {"rows_forward": pixels + spectrum, "columns": 3 * spectrum, "rows_back": spectrum + 2 * pixels}
    moved["before"] = pixels * (1 + 2 * 2)
    medians = {kernel: statistics.median(seconds) for kernel, seconds in times.items()}
    issued = issue_rate()
    return {
        kernel: {
            "images/s": batch / taken,
            "of copy": batch * moved[kernel] / taken / copy,
            # Counted with float32 between alone.
            "of issue": batch * WARP_INSTRUCTIONS[kernel] / taken / issued if between == "float32" else 0.0,
        }
        for kernel, taken in medians.items()
    }


def issue_rate() -> float:
    """Warp instructions per second that the device can start at most: one per cycle on each of four schedulers."""
    import cupy

    attributes = cupy.cuda.Device().attributes
    return 4 * attributes["MultiProcessorCount"] * attributes["ClockRate"] * 1e3
