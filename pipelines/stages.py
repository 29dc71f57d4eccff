"""Parts of the ImageNet training graph by themselves, for benchmarks and checks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from apr_dali.data.folders import ImageSet
from apr_dali.draws import SingleDraws
from apr_dali.pipelines import imagenet, operators
from apr_dali.recipes import AprRecipe

STAGES = ("read", "decode", "resize")
"""Beginnings of the ImageNet training graph."""


@pipeline_def
def stage_pipeline(source: ImageSet, graph: imagenet.Graph, last: str) -> tuple[DataNode, DataNode]:
    """The ImageNet training graph as far as its stage `last`, one of STAGES."""
    images, labels = imagenet.read(source, graph.shard, seed=0, shuffle=True)
    if last in ("decode", "resize"):
        images = imagenet.random_crop(images, graph)
    if last == "resize":
        images = imagenet.resize(images, (graph.image_size, graph.image_size))
    return images, labels


def build(stage: str, images: ImageSet, graph: imagenet.Graph, batch_size: int, device_id: int | None) -> Pipeline:
    """The built ImageNet training pipeline as far as `stage`, one of STAGES; any other name takes the whole of it."""
    options = _options(batch_size, graph.threads, device_id)
    if stage in STAGES:
        made = stage_pipeline(images, graph, stage, **options)
    else:
        made = imagenet.train_pipeline(images, graph, 0, **options)
    made.build()
    return made


@pipeline_def
def _single_pipeline(images: NDArray[np.uint8], recipe: AprRecipe, device: str) -> tuple[DataNode, DataNode]:
    given = fn.external_source(source=lambda: images, batch=True, dtype=types.UINT8, layout="HWC")
    draws = operators.draw_single()
    given = given.gpu() if device == "gpu" else given
    return draws, operators.apr_single(given, overflow=recipe.overflow, axes=recipe.axes, draws=draws)


def run_single(
    images: NDArray[np.uint8], recipe: AprRecipe, device: str, device_id: int | None
) -> tuple[SingleDraws, NDArray[np.uint8]]:
    """APR-S of uint8 (N, H, W, 3) images in a DALI graph: what was drawn, and what came out."""
    pipeline = _single_pipeline(images, recipe, device, **_options(len(images), 1, device_id))
    pipeline.build()
    uniform, changed = (output.as_cpu().as_array() for output in pipeline.run())
    return SingleDraws.from_uniform(uniform, *images.shape[1:3]), np.array(changed)


def _options(batch_size: int, threads: int, device_id: int | None) -> dict[str, Any]:
    """What every pipeline of this module has in common; the queue is the loaders'."""
    return {
        "batch_size": batch_size,
        "num_threads": threads,
        "device_id": device_id,
        "seed": 1,
        "prefetch_queue_depth": 2,
        "exec_dynamic": True,
    }


def advance(pipeline: Pipeline) -> None:
    """Take the next batch of a built pipeline as the loaders do, and leave it unused. Call schedule_run() first."""
    pipeline.share_outputs()
    pipeline.release_outputs()
    pipeline.schedule_run()
