"""Timing: one row in its own process, all rows in turns, what the turns come to, and the stages of one pipeline.

The one place where the time of pipelines is taken. Every measurement is a process of its own that opens its loader,
warms up, and then takes batches for some seconds. The rows take turns for some rounds, so that a busy moment of the
machine hits all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from apr_dali.bench.feeds import Feed, open_feed, recipe_of, threads_of
from apr_dali.bench.images import Places, photographs
from apr_dali.bench.processes import cpu_seconds, peak_mib
from apr_dali.bench.rows import Row
from apr_dali.pipelines import imagenet, stages
from apr_dali.recipes import HW_DECODER_LOAD

Measurement = dict[str, float]
"""images_per_s; cpu_ms per image, of all threads and workers; peak_mib of host memory; gpu_mib in use, with a GPU."""
_WARM_UP = 3

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Settings:
    """How to measure.

    seconds: of a window. threads: of DALI, workers of a DataLoader; None: chosen for each row. hw_decoder_load: share
    of JPEGs for the GPU's hardware decoder.
    """

    rounds: int
    seconds: float
    threads: int | None
    hw_decoder_load: float = HW_DECODER_LOAD


def gpu_name() -> str | None:
    """The name of the GPU, None without one. Not for the process that waits: to ask takes memory of the GPU."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def lacks_dynamic_mode() -> str:
    """Why the loader of dynamic mode cannot be used here, "" where it can."""
    try:
        import apr_dali.pipelines.dynamic_loader  # noqa: F401
    except ImportError as error:
        return str(error)
    return ""


def measure_row(row: Row, places: Places, settings: Settings) -> Measurement:
    """One measurement of `row`, in this process."""
    feed = open_feed(row, places, settings.threads, settings.hw_decoder_load)
    return timed(lambda: _next(feed), settings.seconds, feed.turn, row.on_gpu)


def _next(feed: Feed) -> int:
    return len(next(feed.batches)[0]) // feed.views


def timed(advance: Callable[[], int], seconds: float, turn: int = 1, on_gpu: bool = False) -> Measurement:
    """Call `advance`, which takes a batch and gives its number of images, to warm up and then for `seconds`.

    turn: batches that come together, of which the window holds a whole number. on_gpu: wait for the GPU at both ends.
    """
    for _ in range(_WARM_UP + turn):
        advance()
    wall, cpu = _now(on_gpu)
    images = 0
    while time.perf_counter() - wall < seconds:
        for _ in range(turn):
            images += advance()
    end_wall, end_cpu = _now(on_gpu)
    found = {
        "images_per_s": images / (end_wall - wall),
        "cpu_ms": 1000 * (end_cpu - cpu) / images,
        "peak_mib": peak_mib(),
    }
    if on_gpu:
        free, total = torch.cuda.mem_get_info()
        found["gpu_mib"] = (total - free) / 2**20
    return found


def _now(on_gpu: bool) -> tuple[float, float]:
    """Wall clock and CPU time in seconds."""
    if on_gpu:
        torch.cuda.synchronize()  # synchronizes
    return time.perf_counter(), cpu_seconds()


def in_turns(turns: Iterable[Thing], measure: Callable[[Thing], Measurement]) -> dict[Thing, list[Measurement]]:
    """Measure one thing after the other, each as often as it comes."""
    found: dict[Thing, list[Measurement]] = {}
    for thing in turns:
        found.setdefault(thing, []).append(measure(thing))
    return found


def summary(rounds: Sequence[Measurement]) -> dict[str, float]:
    """Medians over the rounds, ms per image, and `spread`: half the range of images/s as a share of their median."""
    found = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    rates = [one["images_per_s"] for one in rounds]
    return found | {
        "ms": 1000 / found["images_per_s"],
        "spread": (max(rates) - min(rates)) / 2 / found["images_per_s"],
    }


def overhead(rounds: Sequence[Measurement], base: Sequence[Measurement]) -> dict[str, float]:
    """What a row takes more than `base`, as shares of it: the median over the rounds of time and of CPU time.

    The ratio is taken round by round: the two were measured in the same minute.
    """
    pairs = list(zip(rounds, base, strict=True))
    return {
        "overhead": statistics.median(b["images_per_s"] / a["images_per_s"] for a, b in pairs) - 1,
        "overhead_cpu": statistics.median(a["cpu_ms"] / b["cpu_ms"] for a, b in pairs) - 1,
    }


def records(found: Mapping[Row, Sequence[Measurement]], settings: Settings) -> list[dict[str, Any]]:
    """A record a row: what it is, how it was measured, the rounds, their summary, the overhead over its way's none."""
    made = []
    for row, rounds in found.items():
        base = found.get(Row(row.way, "none", row.size))
        made.append(
            {
                "name": row.name,
                "batch": row.batch_size,
                "threads": threads_of(row, settings.threads),
                **summary(rounds),
                **(overhead(rounds, base) if base and row.aug != "none" else {}),
                "rounds": list(rounds),
            }
        )
    return made


STAGES = (*stages.STAGES, "normalize", "operator", "copy")
"""In their order. normalize flips too; operator is APR, or nothing for none; copy is
into torch's tensors on a GPU, and no more than handing them over on the CPU."""


def measure_stage(stage: str, row: Row, places: Places, settings: Settings) -> Measurement:
    """One measurement of the pipeline of `row` as far as `stage`, in this process."""
    if stage == "copy":
        return measure_row(row, places, settings)
    graph = _graph(row.aug if stage == "operator" else "none", row, settings)
    device_id = 0 if row.on_gpu else None
    pipeline = stages.build(stage, photographs(places.folder), graph, row.batch_size, device_id)
    pipeline.schedule_run()

    def advance() -> int:
        stages.advance(pipeline)
        return row.batch_size

    return timed(advance, settings.seconds, on_gpu=row.on_gpu)


def _graph(aug: str, row: Row, settings: Settings) -> imagenet.Graph:
    return imagenet.Graph(
        device="gpu" if row.on_gpu else "cpu",
        image_size=row.size,
        aug=aug,
        recipe=recipe_of(row),
        dtype="float32",
        backend="auto",
        threads=threads_of(row, settings.threads),
        shard=(0, 1),
        hw_decoder_load=settings.hw_decoder_load,
    )


@dataclass(frozen=True)
class Part:
    """What a stage adds, an image: ms of time, and ms of CPU time of all threads."""

    stage: str
    ms: float
    cpu_ms: float


def parts(found: Mapping[str, Sequence[Measurement]], threads: int) -> list[Part]:
    """What each stage adds to the one before it, the median over the rounds; then wait, and the whole.

    Stages overlap in the pipeline: a stage that takes CPU time may add no time, and noise may make one negative.
    wait is the time of the threads beyond the CPU time that the whole pipeline took: they had nothing to do, or no
    core.
    """
    names = list(found)
    made = []
    for before, name in zip((None, *names), names, strict=False):
        rounds = found[name]
        base = [(0.0, 0.0)] * len(rounds) if before is None else [_times(one) for one in found[before]]
        added = [(ms - b_ms, cpu - b_cpu) for (ms, cpu), (b_ms, b_cpu) in zip(map(_times, rounds), base, strict=True)]
        made.append(Part(name, statistics.median(a[0] for a in added), statistics.median(a[1] for a in added)))
    whole = [statistics.median(column) for column in zip(*map(_times, found[names[-1]]), strict=True)]
    return [*made, Part("wait", max(0.0, whole[0] - whole[1] / threads), 0.0), Part("whole", whole[0], whole[1])]


def _times(measurement: Measurement) -> tuple[float, float]:
    return 1000 / measurement["images_per_s"], measurement["cpu_ms"]
