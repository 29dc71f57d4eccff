"""Timing on a CUDA device by events: rows that take turns in one process, and tables of what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Row = Callable[[], Any]
Table = dict[str, dict[str, float]]
_CALLS = 10


def events() -> tuple[torch.cuda.Event, torch.cuda.Event]:
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


def in_turns(rows: dict[str, Row], rounds: int) -> dict[str, float]:
    """The median seconds of a call of each row."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 2):
        for name, run in rows.items():
            start, end = events()
            start.record()
            for _ in range(_CALLS):
                run()
            end.record()
            end.synchronize()
            if turn >= 2:  # compilation, plans and buffers are behind
                times[name].append(start.elapsed_time(end) / 1e3 / _CALLS)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def copy_speed(rounds: int) -> float:
    """Bytes a second that a copy of 1 GiB reads and writes on the device."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / in_turns({"copy": lambda: target.copy_(source)}, rounds)["copy"]


def levels(batch: int, size: int) -> Tensor:
    """Smooth like photographs: noise has flat histograms."""
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1) * 255
    return fine.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cuda()
