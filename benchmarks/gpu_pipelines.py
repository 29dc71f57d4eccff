"""What DALI pipelines and a training step cost with each augmentation on a CUDA device."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_timing import Table, events, levels
from torch import Tensor

import apr_dali
import apr_dali.models
from apr_dali.bench.images import photographs, prepare
from apr_dali.data.folders import ImageSet
from apr_dali.recipes import IMAGENET, uses_pair, uses_single

AUGMENTATIONS = ("none", "apr-p", "apr-s", "apr-sp")
HW_DECODER_LOADS = (0.65, 0.9)
_TURNS = 7
_AHEAD = 5  # batches that a pipeline has made while others had their turn, and more


def tables(count: int, batch: int = 256) -> dict[str, Callable[[], Table]]:
    """What can be measured, by title. count: batches of a pipeline, and steps."""
    jpegs = {
        f"DALI from JPEGs, decoder load {load}": lambda load=load: jpeg_table(load, count, batch)
        for load in HW_DECODER_LOADS
    }
    return {
        **jpegs,
        "DALI from decoded images": lambda: pipeline_table(lambda aug: decoded_pipeline(aug, batch, 224), count, batch),
        "ResNet-50 step": lambda: step_table(count, batch),
        "ResNet-50 step, unmixed batches once": lambda: unmixed_once_table(count, batch),
    }


def decoded_pipeline(aug: str, batch: int, size: int, repeat_unmixed: bool = True) -> Any:
    """A graph as the ImageNet one, from images that lie decoded in the device's memory.

    repeat_unmixed: have every batch of one shape, so that its times are of one kind.
    """
    from nvidia.dali import fn, pipeline_def
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    from apr_dali.pipelines import operators
    from apr_dali.pipelines.graph import Graph, normalize, pair_scales

    given = levels(batch, size)
    settings = Graph(device="gpu", aug=aug, recipe=IMAGENET, dtype="float16", backend="auto", threads=4, shard=(0, 1))

    @pipeline_def(batch_size=batch, num_threads=4, device_id=torch.cuda.current_device(), seed=1)
    def graph() -> Any:
        images = fn.external_source(lambda: given, device="gpu", layout="HWC", batch=True)
        if uses_single(aug):
            images = operators.apr_single(images)
        if uses_pair(aug):
            scales = pair_scales(IMAGENET)
            return operators.apr_pair(images, **scales, dtype="float16", repeat_unmixed=repeat_unmixed)
        return normalize(images, settings)

    for (output,) in DALIGenericIterator(graph(), ["images"]):
        yield output["images"].flatten(0, -4)


def jpeg_loader(aug: str, images: ImageSet, batch: int, hw_decoder_load: float) -> Iterator[Tensor]:
    given = {"device": "gpu", "dtype": "float16", "drop_last": True, "threads": 8, "repeat_unmixed": uses_pair(aug)}
    with apr_dali.ImageNetLoader(images, batch, aug, hw_decoder_load=hw_decoder_load, **given) as loader:
        while True:
            for views, _ in loader:
                yield views


def images_per_second(batches: Iterator[Tensor], batch: int, count: int) -> float:
    for _ in range(_AHEAD):
        next(batches)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(count):
        next(batches)
    torch.cuda.synchronize()
    return batch * count / (time.perf_counter() - start)


def pipeline_table(source: Callable[[str], Iterator[Tensor]], count: int, batch: int) -> Table:
    """All pipelines stand ready and take turns, since the rate of one drifts by more than what they differ by.

    "of none": the median of the turns' own ratios, with the lowest and the highest quarter's limits.
    """
    sources = {aug: source(aug) for aug in AUGMENTATIONS}
    turns = [
        {aug: images_per_second(batches, batch, count) for aug, batches in sources.items()} for _ in range(_TURNS + 1)
    ][1:]
    table: Table = {}
    for aug in AUGMENTATIONS:
        quarters = statistics.quantiles([turn[aug] / turn["none"] for turn in turns], n=4)
        columns = ("of none, 1/4", "of none", "of none, 3/4")
        rates = {"images/s": statistics.median(turn[aug] for turn in turns)}
        table[aug] = rates | dict(zip(columns, quarters, strict=True))
    return table


def jpeg_table(hw_decoder_load: float, count: int, batch: int) -> Table:
    with tempfile.TemporaryDirectory() as name:
        few = photographs(prepare(Path(name), None).folder)
        # Eight times each: an epoch of a batch or two is one of beginnings.
        images = replace(few, files=few.files * 8, labels=np.tile(few.labels, 8))
        return pipeline_table(lambda aug: jpeg_loader(aug, images, batch, hw_decoder_load), count, batch)


def step_table(count: int, batch: int) -> Table:
    """A step on batches from a pipeline beside the same step on a batch that lies ready."""
    step = training_step()
    table: Table = {}
    for aug in AUGMENTATIONS:
        source = decoded_pipeline(aug, batch, 224)
        ready = next(source).clone()
        alone = statistics.median(step_seconds(step, (ready for _ in range(count + 5)), count))
        fed = statistics.median(step_seconds(step, source, count))
        # What any pipeline costs the step is in the row without augmentation.
        table[aug] = {"step ms": fed * 1e3, "ready ms": alone * 1e3, "feeding adds": fed / alone - 1}
    return table


def unmixed_once_table(count: int, batch: int) -> Table:
    """Mean of the steps on batches as the loaders give them: one view where the coin leaves a batch unmixed, else two.

    "ready ms": of steps on batches that lie ready, as many of either shape.
    """
    step = training_step()
    table: Table = {}
    for aug in filter(uses_pair, AUGMENTATIONS):
        both = next(decoded_pipeline(aug, batch, 224)).clone()
        alone = {
            len(ready): statistics.median(step_seconds(step, (ready for _ in range(count + 5)), count))
            for ready in (both[:batch], both)
        }
        sizes: list[int] = []
        fed = step_seconds(step, counted(decoded_pipeline(aug, batch, 224, repeat_unmixed=False), sizes), count)
        sizes = sizes[-count:]
        expected = statistics.fmean(alone[size] for size in sizes)
        mean = statistics.fmean(fed)
        mixed = sizes.count(2 * batch) / count
        table[aug] = {
            "step ms": mean * 1e3,
            "ready ms": expected * 1e3,
            "feeding adds": mean / expected - 1,
            "of all mixed": mixed,
        }
    return table


def counted(batches: Iterator[Tensor], sizes: list[int]) -> Iterator[Tensor]:
    """The batches, their numbers of rows noted."""
    for images in batches:
        sizes.append(len(images))
        yield images


def training_step() -> Callable[[Tensor], None]:
    model = apr_dali.models.create_model("resnet50", 1000).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(images: Tensor) -> None:
        with torch.autocast("cuda", torch.bfloat16):
            logits = model(images.to(memory_format=torch.channels_last))
            loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(images), dtype=torch.long, device="cuda"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def step_seconds(step: Callable[[Tensor], None], batches: Iterator[Tensor], count: int) -> list[float]:
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
    return [start.elapsed_time(end) / 1e3 for start, end in times]
