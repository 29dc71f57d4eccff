"""Launches of augment_waves.cu."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apr_dali.kernels.cuda.augment_job import Job
from apr_dali.kernels.cuda.nvrtc import Program

PROGRAM = Program("augment_waves.cu")
WAVE = np.dtype([("start", "u4"), ("down", "u4"), ("across", "u4"), ("strength", "f4")])
"""`Wave` of augment_waves.cu."""

Numbers = NDArray[np.float64]


def waves(job: Job, down: Numbers, across: Numbers, strength: Numbers, turn: float, least_norm: float) -> None:
    """clip(x + strength·W / ‖W‖, 0, top), W = sin(π(u·down + v·across + turn)), u and v as linspace(-H/2, H/2, H).

    down, across, strength: float64 (N, C), half turns a pixel and values in 0..1. turn: half turns.
    """
    angles = np.pi * down, np.pi * across
    table = parameters(*angles, strength * job.top, np.pi * turn, least_norm, job.shape[1:])
    # CuPy has no records: words of 4 bytes.
    job.each(PROGRAM, "add_waves", *job.device.put((table.view("u4"), "u4")), np.float32(job.top))


def parameters(
    down: Numbers, across: Numbers, strength: Numbers, turn: float, least_norm: float, size: tuple[int, int]
) -> NDArray[np.void]:
    """The waves as the kernel takes them: WAVE (N, C). down, across, turn: radians."""
    steps = [step * length / max(length - 1, 1) for step, length in zip((down, across), size, strict=True)]
    start = turn - (down * size[0] + across * size[1]) / 2
    middle = start + sum(step * (length - 1) / 2 for step, length in zip(steps, size, strict=True))
    # Σ sin² = Σ (1 - cos of twice the angle) / 2: a sum of evenly spaced angles for rows, and for columns.
    sums = [_sum_of_turns(step, length) for step, length in zip(steps, size, strict=True)]
    square = (size[0] * size[1] - np.cos(2 * middle) * sums[0] * sums[1]) / 2
    table = np.empty(down.shape, WAVE)
    for name, angle in (("start", start), ("down", steps[0]), ("across", steps[1])):
        table[name] = _phase(angle)
    table["strength"] = strength / np.maximum(np.sqrt(np.maximum(square, 0)), least_norm)
    return table


def _sum_of_turns(step: Numbers, length: int) -> Numbers:
    """Σ cos(2·step·k) over `length` values of k, one apart and around 0: sin(length·step) / sin(step)."""
    # Whole half turns off, so that numerator and denominator vanish at one place alone.
    off = np.rint(step / np.pi)
    sign = np.where(off * (length - 1) % 2 == 0, 1.0, -1.0)
    rest = step - np.pi * off
    flat = np.abs(rest) < 1e-9
    return sign * np.where(flat, length, np.sin(length * rest) / np.where(flat, 1.0, np.sin(rest)))


def _phase(angle: Numbers) -> NDArray[np.uint32]:
    """An angle in 2^-32 turns."""
    turns = angle / (2 * np.pi)
    return np.rint((turns - np.floor(turns)) * 2**32).astype(np.uint64).astype(np.uint32)


LAUNCHERS = {"waves": waves}
