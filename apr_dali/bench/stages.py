"""Where the time of a DALI pipeline goes, by difference: the pipeline ends after one stage more each time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nvidia.dali.pipeline import Pipeline

from apr_dali.bench.feeds import recipe_of, threads_of
from apr_dali.bench.images import Places, photographs
from apr_dali.bench.measure import Measurement, Settings, measure_row, timed
from apr_dali.bench.rows import Row
from apr_dali.pipelines import imagenet, measured

STAGES = (*measured.STAGES, "normalise", "operator", "copy")
"""In their order. normalise flips too; operator is APR, or nothing for none; copy is
into torch's tensors on a GPU, and no more than handing them over on the CPU."""


def measure_stage(stage: str, row: Row, places: Places, settings: Settings) -> Measurement:
    """One measurement of the pipeline of `row` as far as `stage`, in this process."""
    if stage == "copy":
        return measure_row(row, places, settings)
    pipeline = _pipeline(stage, row, places, settings)
    pipeline.build()
    pipeline.schedule_run()

    def advance() -> int:
        measured.advance(pipeline)
        return row.batch_size

    return timed(advance, settings.seconds, on_gpu=row.on_gpu)


def _pipeline(stage: str, row: Row, places: Places, settings: Settings) -> Pipeline:
    device = "gpu" if row.on_gpu else "cpu"
    aug = row.aug if stage == "operator" else "none"
    threads = threads_of(row, settings.threads)
    graph = imagenet.Graph(
        device,
        row.size,
        aug,
        recipe_of(row),
        "float32",
        "auto",
        threads,
        (0, 1),
        hw_decoder_load=settings.hw_decoder_load,
    )
    options = measured.options(row.batch_size, threads, 0 if row.on_gpu else None)
    images = photographs(places.folder)
    if stage in measured.STAGES:
        return measured.stage_pipeline(images, graph, stage, **options)
    return imagenet.train_pipeline(images, graph, 0, **options)


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
