"""The augmentations of `apr_dali.augmentations` in training graphs: where each stands, and the views of an image."""

from __future__ import annotations

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali.augmentations import find
from apr_dali.augmentations.plan import Plan
from apr_dali.pipelines.graph import normalize
from apr_dali.pipelines.operators import augment
from apr_dali.recipes import AprRecipe


def on_levels(images: DataNode, plan: Plan) -> DataNode:
    """uint8 HWC images as the plan's first steps change them: those that stand where APR-S does."""
    for name in plan.levels:
        images = augment(images, name, dataset=plan.dataset)
    return images


def normalized_views(images: DataNode, plan: Plan, recipe: AprRecipe, dtype: str) -> DataNode:
    """uint8 HWC images, cropped and flipped, as normalized ones: CHW, or of several views FCHW.

    What works on values and is not published with levels gets them in 0..1 and is rounded nowhere.
    """
    if not plan.last:
        return normalize(images, recipe, dtype)
    record = find(plan.last)
    rounded = record.takes == "levels" or record.overflow != "clamp"
    whole = images if rounded else _shares(images)
    views = [whole] if plan.clean and plan.views > 1 else []
    while len(views) < plan.views:
        views.append(augment(whole, plan.last, dataset=plan.dataset, layout="HWC" if rounded else "CHW"))
    stacked = views[0] if plan.views == 1 else fn.stack(*views, axis=0, axis_name="F")
    layout = "CHW" if plan.views == 1 else "FCHW"
    return normalize(stacked, recipe, dtype, layout=layout, levels=255 if rounded else 1)


def _shares(images: DataNode) -> DataNode:
    return fn.crop_mirror_normalize(images, std=[255.0] * 3, mean=[0.0] * 3, dtype=types.FLOAT, output_layout="CHW")
