"""The augmentations of `apr_dali.augmentations` in training graphs: where each stands, and the views of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali.augmentations import find
from apr_dali.augmentations.plan import Plan
from apr_dali.pipelines.graph import Graph
from apr_dali.pipelines.operators import any_heads, augment, draw_coins, layout_of


def on_levels(images: DataNode, plan: Plan, graph: Graph) -> DataNode:
    """uint8 HWC images as the plan's first steps change them: those that stand where APR-S does."""
    for name in plan.levels:
        images = augment(images, name, **_options(plan, graph))
    return images


@dataclass(frozen=True)
class Views:
    """Images CHW in the graph's layout, or FCHW where `frames`, the most views of a batch, is not 0.

    differ: see `erased`.
    """

    images: DataNode
    frames: int = 0
    differ: Callable[[], DataNode] | None = None


def normalized_views(images: DataNode, plan: Plan, graph: Graph, coin_seed: int | None) -> Views:
    """uint8 HWC images, cropped and flipped, as normalized ones in the graph's layout, F before it for several views.

    What works on values and is not published with levels gets them in 0..1 and is rounded nowhere. A coin that decides
    over batches is that of `coin_seed`, the same on all ranks; a batch whose views are one and the same then comes in
    one, unless the graph repeats it.
    """
    records = [find(name) for name in plan.changes if name]
    if not records:
        return Views(_normalized(images, graph, 255))
    rounded = any(record.takes == "levels" or record.overflow != "clamp" for record in records)
    whole, layout = (images, "HWC") if rounded else (_shares(images), "CHW")
    options = [{"layout": layout, **_options(plan, graph)} for _ in records]
    share, coins = plan.coin, None
    if share is not None and coin_seed is not None:
        coins = draw_coins(coin_seed, len(records))
        options = [{**each, "coins": coins[number]} for number, each in enumerate(options)]
    given = iter(options)
    views = [augment(whole, name, **next(given)) if name else whole for name in plan.changes]
    if plan.views == 1:
        return Views(_normalized(views[0], graph, 255 if rounded else 1))
    stacked, differ = fn.stack(*views, axis=0, axis_name="F"), None
    if share is not None and coins is not None:
        differ = partial(any_heads, coins, share)
        # Also where all come: a state is then of either graph.
        several = any_heads(coins, 1.0 if graph.repeat_unmixed else share)
        stacked = fn.slice(stacked, start=0, shape=1 + (plan.views - 1) * several, axes=[0])
    return Views(_normalized(stacked, graph, 255 if rounded else 1, "F"), plan.views, differ)


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
