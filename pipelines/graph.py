"""What the graphs of both loaders have in common."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import do_not_convert

from apr_dali.augmentations.plan import Plan, is_named, plan
from apr_dali.pipelines import operators, policies
from apr_dali.pipelines.handover import Handover
from apr_dali.recipes import AprRecipe, uses_pair, uses_single

# Between the seeds of two streams: a prime, so that they do not meet those of other seeds and ranks soon.
STREAM_STRIDE = 15_485_863


_NEW = ("policy", "policy_magnitude", "random_erasing", "aug_form", "aug_dataset")


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What a graph is made for: everything but the batch size and the seed. See BatchOptions.

    device: "cpu" or "gpu". recipe: of gray images with in_chans 1. repeat_unmixed: with all views.
    memory_format: of what comes out, (C, H, W) or, channels_last, (H, W, C).
    policy_magnitude: as `apr_dali.recipes.policy_magnitude` gives it. aug_dataset: "" where
    `aug` has nothing by it.
    """

    device: str
    aug: str
    recipe: AprRecipe
    dtype: str
    backend: str
    threads: int
    shard: tuple[int, int]
    in_chans: int = 3
    repeat_unmixed: bool = False
    memory_format: str = "contiguous"
    policy: str = "none"
    policy_magnitude: int = 0
    random_erasing: float = 0.0
    aug_form: str = "published"
    aug_dataset: str = ""

    @property
    def plan(self) -> Plan | None:
        """How the augmentation is trained with, where it is one of `apr_dali.augmentations`."""
        return plan(self.aug, self.aug_dataset, self.aug_form) if is_named(self.aug) else None

    @property
    def operator_threads(self) -> int | None:
        """The threads to ask of the operators: a backend that has a setting of its own refuses them."""
        return self.threads if self.backend in ("auto", "native") else None

    @property
    def operator_options(self) -> dict[str, Any]:
        """How both operators are to compute."""
        return {"axes": self.recipe.axes, "backend": self.backend, "threads": self.operator_threads}

    @property
    def output_options(self) -> dict[str, Any]:
        """As what the last operator is to write the batch."""
        return {"dtype": self.dtype, "memory_format": self.memory_format}

    @property
    def normalizes_itself(self) -> bool:
        """Whether batches without APR-P are normalized by our own operator: DALI's has no bfloat16.

        On a GPU a conversion costs less than a call of Python there.
        """
        own = uses_pair(self.aug) or is_named(self.aug)
        return self.dtype == "bfloat16" and self.device == "cpu" and not own

    @property
    def hands_over(self) -> bool:
        """Whether the last operator is one of ours on the CPU, whose batches can go past DALI: see `Handover`."""
        ours = uses_pair(self.aug) or self.normalizes_itself
        return ours and self.device == "cpu" and self.aug != "cutout" and self.random_erasing == 0

    def settings(self) -> dict[str, Any]:
        """What of it must be the same for a state to mean the same batches."""
        settings = asdict(self) | {"recipe": repr(self.recipe)}
        if (settings.get("scaling") or {}).get("geometry") == "center":
            # The only one when older states were written.
            del settings["scaling"]["geometry"]
        # How it is computed may change, on another machine, say, and how often and in what order a pixel is given.
        free = ["backend", "threads", "hw_decoder_load", "repeat_unmixed", "memory_format"]
        # What older states do not have.
        free += [name for name in _NEW if getattr(self, name) == getattr(Graph, name)]
        if self.normalizes_itself:
            # DALI does not take up the graphs of older states, which had an operator of its own here.
            settings["normalized"] = "bfloat16"
        if self.device == "gpu" and (uses_single(self.aug) or uses_pair(self.aug) or is_named(self.aug)):
            # So with what takes batches from our operators on a GPU, and mirrors them; all other graphs are as before.
            settings["operators"] = "framed"
        if self.plan is not None and self.plan.coin is not None:
            # Each rank had coins of its own before.
            settings["coin"] = "of all ranks"
        return {key: value for key, value in settings.items() if key not in free}

    def pipeline_options(
        self, batch_size: int, device_id: int | None, seed: int, stream: int, checkpoint: bytes | None
    ) -> dict[str, Any]:
        """What all pipelines of the loaders have in common; `seed` is that of the order, `stream` the first epoch."""
        return {
            "batch_size": batch_size,
            "num_threads": self.threads,
            "device_id": device_id,
            # The order of the images is one for all ranks, what happens to them is each rank's own.
            "seed": draws_seed(seed, self.shard[0], stream),
            "prefetch_queue_depth": 2,
            "exec_dynamic": True,
            "enable_conditionals": policies.enabled(self.policy),
            "checkpoint": checkpoint,
        }


def checksum(weights: NDArray[np.float64] | None) -> int | None:
    """What distinguishes weights from others in a state."""
    return None if weights is None else zlib.crc32(weights.tobytes())


def pair_scales(recipe: AprRecipe) -> dict[str, Any]:
    """The scale and bias with which `apr_pair` normalizes uint8 images before (ImageNet) or after (CIFAR) mixing."""
    scale = tuple(1 / std for std in recipe.std)
    bias = tuple(-mean / std for mean, std in zip(recipe.mean, recipe.std, strict=True))
    if recipe.pair_after_normalise:
        return {"in_scale": tuple(s / 255 for s in scale), "in_bias": bias}
    return {"in_scale": (1 / 255,) * 3, "out_scale": scale, "out_bias": bias}


# DALI's conditionals rewrite the functions of a graph; here there are none.
@do_not_convert
def normalize(
    images: DataNode,
    graph: Graph,
    mirror: DataNode | None = None,
    frames: str = "",
    handover: Handover | None = None,
) -> DataNode:
    """uint8 HWC images in 0..255 as normalized ones, as the graph gives them out, mirrored where `mirror` is 1.

    bfloat16 comes as int16, its bits, or on a GPU as float32, which is still to be converted. frames: "F" for views.
    handover: see `apr_pair`; what DALI normalizes it gives out by itself.
    """
    mean, std = ([255 * value for value in values] for values in (graph.recipe.mean, graph.recipe.std))
    layout = operators.layout_of(graph.memory_format, frames)
    if graph.normalizes_itself:
        if mirror is not None:
            images = flipped(images, mirror)
        options: dict[str, Any] = {"layout": layout, "backend": graph.backend, "threads": graph.operator_threads}
        options["handover"] = handover
        return operators.normalized(images, mean, std, **graph.output_options, **options)
    return fn.crop_mirror_normalize(
        images,
        mirror=0 if mirror is None else mirror,
        mean=mean,
        std=std,
        dtype=types.FLOAT16 if graph.dtype == "float16" else types.FLOAT,
        output_layout=layout,
    )


def flipped(images: DataNode, mirror: DataNode) -> DataNode:
    """uint8 HWC images, mirrored where `mirror` is 1."""
    if images.device == "cpu":
        return fn.flip(images, horizontal=mirror)
    # DALI's flip takes ten times as long on a GPU as the normalization that leaves all levels as they are.
    return mirrored_levels(images, mirror)


def mirrored_levels(images: DataNode, mirror: DataNode) -> DataNode:
    """`fn.flip` of uint8 HWC images, by the normalization with mean 0 and standard deviation 1."""
    return fn.crop_mirror_normalize(images, mirror=mirror, mean=0.0, std=1.0, dtype=types.UINT8, output_layout="HWC")


def coin_seed(seed: int, stream: int) -> int:
    """The seed of coins that decide over batches: one for all ranks, so that all have as many rows at a step."""
    return draws_seed(seed, 0, stream)


def draws_seed(seed: int, rank: int, stream: int) -> int:
    """The seed of all draws in a pipeline, but for the coin."""
    return (seed * 1_000_003 + rank + stream * STREAM_STRIDE) % 2**31
