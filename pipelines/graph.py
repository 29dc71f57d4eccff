"""Parts that the graphs of both loaders have in common."""

from __future__ import annotations

from typing import Any

from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode

from apr_dali.recipes import AprRecipe

# Between the seeds of two streams: a prime, so that they do not meet those of other seeds and ranks soon.
STREAM_STRIDE = 15_485_863


def pair_scales(recipe: AprRecipe) -> dict[str, Any]:
    """The scale and bias with which `apr_pair` normalizes uint8 images before (ImageNet) or after (CIFAR) mixing."""
    scale = tuple(1 / std for std in recipe.std)
    bias = tuple(-mean / std for mean, std in zip(recipe.mean, recipe.std, strict=True))
    if recipe.pair_after_normalise:
        return {"in_scale": tuple(s / 255 for s in scale), "in_bias": bias}
    return {"in_scale": (1 / 255,) * 3, "out_scale": scale, "out_bias": bias}


def stored(dtype: str) -> str:
    """The type of a batch inside DALI, which has no bfloat16."""
    return "float16" if dtype == "float16" else "float32"


def normalize(images: DataNode, recipe: AprRecipe, dtype: str, mirror: Any = 0, layout: str = "CHW") -> DataNode:
    """uint8 HWC images in 0..255 as normalized ones in `layout`, mirrored where `mirror` is 1."""
    return fn.crop_mirror_normalize(
        images,
        mirror=mirror,
        mean=[255 * value for value in recipe.mean],
        std=[255 * value for value in recipe.std],
        dtype=types.FLOAT16 if stored(dtype) == "float16" else types.FLOAT,
        output_layout=layout,
    )


def draws_seed(seed: int, rank: int, stream: int) -> int:
    """The seed of all draws in a pipeline."""
    return (seed * 1_000_003 + rank + stream * STREAM_STRIDE) % 2**31
