"""The CIFAR graphs: small images from memory, augmented and normalized, in the order of the published code.

Training: APR-S, random crop from the image with a border, flip, APR-P on images in 0..1, normalize (cutout last). The
paper's section 5.1 has flip and crop before any augmentation.
Evaluation: normalize. The order of the images is a pure function of (seed, epoch), so DALI's checkpoints, which count
the batches that were asked for, restore a run exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline, do_not_convert

from apr_dali.data.arrays import ArraySet
from apr_dali.data.sampling import draw
from apr_dali.errors import InputError
from apr_dali.pillow_ops import gray_levels
from apr_dali.pipelines import augmented, operators, policies
from apr_dali.pipelines.erasing import erased
from apr_dali.pipelines.graph import Graph as CommonGraph
from apr_dali.pipelines.graph import coin_seed, flipped, normalize, pair_scales
from apr_dali.pipelines.handover import Handover
from apr_dali.recipes import uses_pair, uses_single

BORDER = 4
"""Pixels round an image from which crops are taken."""
CUTOUT = 16
"""Side in pixels of the square that cutout blanks: what DeVries and Taylor (2017) found best on CIFAR-10."""
ON_ARRAYS = ("autoaugment", "augmix")
"""Augmentations that torchvision does, image by image, before the graph."""
_IN_USE = 4
"""Batches that a pipeline may still read: those of its queue, the one given out, and the one being made."""


@dataclass(frozen=True, kw_only=True)
class Graph(CommonGraph):
    """The settings of a CIFAR graph. See CifarLoader."""

    flip: bool
    fill: int
    single_probability: float
    amplitude_labels: bool

    def __post_init__(self) -> None:
        if not 0 <= self.single_probability <= 1:
            raise InputError(f"single_probability must be in 0..1, got {self.single_probability}")
        if not 0 <= self.fill <= 255:
            raise InputError(f"fill must be in 0..255, got {self.fill}")


def views(aug: str) -> int:
    """Images that the network sees of each one."""
    return 3 if aug == "augmix" else 1 + uses_pair(aug)


class Batches:
    """Batch n of one shard as a function of n, counted on through all epochs; every one is full, by repetition.

    Calling it gives (images uint8 (B, H, W, 3) or (B, V, H, W, 3), their numbers in the set, int32 (B, 1)). They stay
    in memory while the next `_IN_USE` - 1 batches are made, and are not to be written to: images in a row
    are the set's own, others are copied once.
    """

    def __init__(
        self,
        data: ArraySet,
        batch_size: int,
        shard: tuple[int, int],
        order_seed: int,
        shuffle: bool,
        change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
        first_epoch: int = 0,
        gray: bool = False,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """order_seed: one for all ranks. change: what is made of an image, drawing from torch's global generator.

        first_epoch: that of batch 0. gray: all three channels of an image are its gray levels. weights: (N,), with
        which images are drawn instead of each coming once.
        """
        self._data, self._shard, self._batch_size = data, shard, batch_size
        self._seed, self._shuffle, self._change = order_seed, shuffle, change
        self._in_epoch = ceil(ceil(len(data) / shard[1]) / batch_size)
        self._gray, self._weights = gray, weights
        self._first = first_epoch * self._in_epoch
        self._epoch, self._order = -1, np.zeros(0, np.int64)
        self._given: deque[tuple[NDArray[np.uint8], NDArray[np.int32]]] = deque(maxlen=_IN_USE)

    def __call__(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        number += self._first
        epoch, batch = divmod(number, self._in_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._order_of(epoch)
        places = np.arange(batch * self._batch_size, (batch + 1) * self._batch_size)
        chosen = self._order[np.minimum(places, len(self._order) - 1)]
        images = self._images(chosen)
        if self._gray:
            images = gray_levels(images)
        if self._change is not None:
            with _torch_seeded([self._seed, self._shard[0], number]):
                images = np.stack([self._change(image) for image in images])
        self._given.append((images, chosen[:, None].astype(np.int32)))
        return self._given[-1]

    def _images(self, chosen: NDArray[np.int64]) -> NDArray[np.uint8]:
        in_order = not self._shuffle and self._weights is None
        # Only the last batch of an epoch repeats an image.
        if in_order and chosen[-1] - chosen[0] == len(chosen) - 1:
            return np.ascontiguousarray(self._data.images[chosen[0] : chosen[-1] + 1])
        return self._data.images.take(chosen, axis=0)

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        """The images of this shard in the order of the epoch."""
        count, (rank, world) = len(self._data), self._shard
        order = np.arange(count)
        if self._weights is not None:
            order = draw(self._weights, self._seed, epoch)
        elif self._shuffle:
            order = np.random.default_rng([self._seed, epoch]).permutation(count)
        return order[count * rank // world : count * (rank + 1) // world]


@contextmanager
def _torch_seeded(seed: list[int]) -> Iterator[None]:
    """torch's generator of the CPU starts at `seed` within, and goes on outside as if nothing had been."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
        yield


def change_of(graph: Graph) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None:
    """What torchvision makes of an image (H, W, 3) before the graph: (H, W, 3), of AugMix (3, H, W, 3); or None."""
    return partial(_by_torchvision, graph=graph) if graph.aug in ON_ARRAYS else None


def _by_torchvision(image: NDArray[np.uint8], graph: Graph) -> NDArray[np.uint8]:
    import torch
    from torchvision.transforms import v2

    crop = v2.RandomCrop(image.shape[:2], padding=BORDER, fill=graph.fill)
    flip = v2.RandomHorizontalFlip(0.5 if graph.flip else 0.0)
    clean = flip(crop(torch.from_numpy(image).permute(2, 0, 1)))
    if graph.aug == "autoaugment":
        changed = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)(clean)
    else:
        # The published AugMix leaves out the operations that are like test corruptions.
        augmix = v2.AugMix(all_ops=False)
        changed = torch.stack([clean, augmix(clean), augmix(clean)])
    return np.asarray(changed.movedim(-3, -1).contiguous())


@pipeline_def(enable_checkpointing=True)
def train_pipeline(
    source: Batches,
    graph: Graph,
    size: tuple[int, int],
    coin_seed: int | None = None,
    handover: Handover | None = None,
) -> tuple[DataNode, DataNode]:
    """Training batches: (C, H, W) per image or (V, C, H, W), the clean view first, V = 1 where APR-P leaves the batch
    unmixed; and its number (1,).

    size: (H, W). coin_seed, handover: see `apr_pair`. With graph.amplitude_labels the numbers are (2,): the image's and
    its mixed view's amplitude's.
    """
    images, numbers = _given(source, graph)
    images = policies.apply(images, graph.policy, graph.policy_magnitude, size)
    return _augmented(images, numbers, graph, size, coin_seed, handover)


# DALI's conditionals rewrite the functions of a graph: those that have none stay as they are.
@do_not_convert
def _given(source: Batches, graph: Graph) -> tuple[DataNode, DataNode]:
    return read(source, graph, "FHWC" if graph.aug in ON_ARRAYS and views(graph.aug) > 1 else "HWC")


@do_not_convert
def _augmented(
    images: DataNode,
    numbers: DataNode,
    graph: Graph,
    size: tuple[int, int],
    coin_seed: int | None,
    handover: Handover | None,
) -> tuple[DataNode, DataNode]:
    """What follows the policy: APR, crop, flip, normalization, erasing."""
    recipe = graph.recipe
    if graph.aug in ON_ARRAYS:
        frames = "F" if views(graph.aug) > 1 else ""
        images = normalize(images, graph, frames=frames, handover=handover)
        return erased(images, graph.random_erasing, size, views(graph.aug) if frames else 0), numbers
    plan = graph.plan
    if uses_single(graph.aug):
        images = _some_single(images, graph)
    elif plan is not None:
        images = augmented.on_levels(images, plan, graph)
    images = crop(images, graph.fill, size)
    mirror = fn.random.coin_flip(probability=0.5 if graph.flip else 0.0)
    if plan is None and not uses_pair(graph.aug):
        images = normalize(images, graph, mirror, handover=handover)
        images = _cutout(images, size) if graph.aug == "cutout" else images
        return erased(images, graph.random_erasing, size), numbers
    images = flipped(images, mirror)
    if plan is not None and not plan.pair:
        seen = augmented.normalized_views(images, plan, graph, coin_seed)
        return erased(seen.images, graph.random_erasing, size, seen.frames, seen.differ), numbers
    draws = operators.draw_pair(coin_seed)
    images = operators.apr_pair(
        images,
        recipe.pair_probability,
        **pair_scales(recipe),
        **graph.operator_options,
        **graph.output_options,
        repeat_unmixed=graph.repeat_unmixed,
        draws=draws,
        handover=handover,
    )
    images = erased(images, graph.random_erasing, size, 2, partial(operators.mixed, draws, recipe.pair_probability))
    if graph.amplitude_labels:
        numbers = fn.cat(numbers, operators.amplitudes_of(numbers, draws, recipe.pair_probability))
    return images, numbers


@pipeline_def(enable_checkpointing=True)
def eval_pipeline(source: Batches, graph: Graph, handover: Handover | None = None) -> tuple[DataNode, DataNode]:
    """Evaluation batches (C, H, W) per image, in the order of the set, and its number (1,).

    handover: see `apr_pair`.
    """
    images, numbers = read(source, graph, "HWC")
    return normalize(images, graph, handover=handover), numbers


def read(source: Batches, graph: Graph, layout: str) -> tuple[DataNode, DataNode]:
    """Images uint8 on the graph's device and their numbers int32 (1,)."""
    images, numbers = fn.external_source(
        source=source,
        num_outputs=2,
        batch=True,
        dtype=[types.UINT8, types.INT32],
        layout=[layout, ""],
        # For a GPU DALI's copy is the one to pinned memory.
        no_copy=graph.device == "cpu",
    )
    return (images.gpu() if graph.device == "gpu" else images), numbers


def _some_single(images: DataNode, graph: Graph) -> DataNode:
    """APR-S on a share of the images."""
    changed = operators.apr_single(images, overflow=graph.recipe.overflow, **graph.operator_options)
    if graph.single_probability == 1:
        return changed
    # Whole numbers: one of the two is taken, nothing is blended.
    chosen = fn.random.coin_flip(probability=graph.single_probability)
    return fn.cast(changed * chosen + images * (1 - chosen), dtype=types.UINT8)


def crop(images: DataNode, fill: int, size: tuple[int, int]) -> DataNode:
    """A random part of the image's own size of the image with a border."""
    offsets = [float(offset) for offset in range(-BORDER, BORDER + 1)]
    corner = fn.cast(fn.random.uniform(values=offsets, shape=2), dtype=types.INT32)
    return fn.slice(
        images, start=corner, shape=list(size), axes=(0, 1), out_of_bounds_policy="pad", fill_values=float(fill)
    )


def _cutout(images: DataNode, size: tuple[int, int]) -> DataNode:
    """Normalized images with a square round a random pixel set to 0, the mean; what lies outside is cut off."""
    rows, columns = (fn.random.uniform(values=[float(n) for n in range(side)]) for side in size)
    return fn.erase(
        images,
        anchor=fn.stack(rows, columns),
        shape=[float(CUTOUT)] * 2,
        axis_names="HW",
        centered_anchor=True,
        fill_value=0.0,
    )


def build(
    data: ArraySet,
    graph: Graph,
    *,
    train: bool,
    batch_size: int,
    device_id: int | None,
    seed: int,
    stream: int = 0,
    weights: NDArray[np.float64] | None = None,
    checkpoint: bytes | None = None,
    handover: Handover | None = None,
) -> Pipeline:
    """A built pipeline, at the beginning of the epoch `stream` or where a `checkpoint` of that pipeline was taken.

    weights: (N,), of training images that are drawn instead of each coming once. handover: see `apr_pair`.
    """
    options = graph.pipeline_options(batch_size, device_id, seed, stream, checkpoint)
    source = Batches(data, batch_size, graph.shard, seed, train, change_of(graph), stream, graph.in_chans == 1, weights)
    size = (data.images.shape[1], data.images.shape[2])
    if train:
        with policies.without_dalis_own_warnings():
            made = train_pipeline(source, graph, size, coin_seed(seed, stream), handover, **options)
    else:
        made = eval_pipeline(source, graph, handover, **options)
    made.build()
    return made
