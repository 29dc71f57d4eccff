"""The augmentations of `apr_dali.augmentations` in training graphs: where each stands, and the views of an image."""

from __future__ import annotations

from typing import Any

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali.augmentations import find
from apr_dali.augmentations.plan import Plan
from apr_dali.pipelines.graph import Graph
from apr_dali.pipelines.operators import augment, layout_of


def on_levels(images: DataNode, plan: Plan, graph: Graph) -> DataNode:
    """uint8 HWC images as the plan's first steps change them: those that stand where APR-S does."""
    for name in plan.levels:
        images = augment(images, name, **_options(plan, graph))
    return images


def normalized_views(images: DataNode, plan: Plan, graph: Graph) -> DataNode:
    """uint8 HWC images, cropped and flipped, as normalized ones in the graph's layout, F before it for several views.

    What works on values and is not published with levels gets them in 0..1 and is rounded nowhere.
    """
    records = [find(name) for name in plan.changes if name]
    if not records:
        return _normalized(images, graph, 255)
    rounded = any(record.takes == "levels" or record.overflow != "clamp" for record in records)
    whole, layout = (images, "HWC") if rounded else (_shares(images), "CHW")
    views = [augment(whole, name, layout=layout, **_options(plan, graph)) if name else whole for name in plan.changes]
    stacked = views[0] if plan.views == 1 else fn.stack(*views, axis=0, axis_name="F")
    return _normalized(stacked, graph, 255 if rounded else 1, "F" if plan.views > 1 else "")


def _options(plan: Plan, graph: Graph) -> dict[str, Any]:
    return {"dataset": plan.dataset, "backend": graph.backend, "threads": graph.operator_threads}


def _normalized(images: DataNode, graph: Graph, levels: float, frames: str = "") -> DataNode:
    """Images in 0..levels, normalized: float16 or float32, of which the loader makes bfloat16."""
    mean, std = ([levels * value for value in values] for values in (graph.recipe.mean, graph.recipe.std))
    return fn.crop_mirror_normalize(
        images,
        mean=mean,
        std=std,
        dtype=types.FLOAT16 if graph.dtype == "float16" else types.FLOAT,
        output_layout=layout_of(graph.memory_format, frames),
    )


def _shares(images: DataNode) -> DataNode:
    return fn.crop_mirror_normalize(images, std=[255.0] * 3, mean=[0.0] * 3, dtype=types.FLOAT, output_layout="CHW")
