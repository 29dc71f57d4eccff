"""Training epochs in DALI's dynamic mode: the reader's epochs are captured, and APR stands behind them.

`apr_dali.ImageNetLoader` is the main way: it alone goes on in mid-epoch from a checkpoint, looks at images before they
are decoded, and reads tars.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvidia.dali import types
from torch import Tensor

from apr_dali.data.folders import ImageSet, open_files
from apr_dali.draws import PairDraws, coin_of
from apr_dali.errors import check_choice
from apr_dali.pipelines.batch_options import BatchOptions, check_shared_out, check_size
from apr_dali.pipelines.dynamic import apr_pair, apr_single, draw_pair, ndd
from apr_dali.pipelines.graph import STREAM_STRIDE, draws_seed, pair_scales
from apr_dali.pipelines.newer import require
from apr_dali.recipes import (
    AUGMENTATIONS,
    CROP_RATIO,
    CROP_SCALE,
    IMAGENET,
    VIEWS,
    AprRecipe,
    uses_pair,
    uses_single,
)

capture = require("nvidia.dali.experimental.dynamic.capture", "2.3")


class DynamicLoader:
    """Training batches of image files in dynamic mode, for any PyTorch loop: (images, targets) as of `ImageNetLoader`.

    DALI runs its own operators, from the reader to the flip, as a captured pipeline from the second batch on, some
    batches ahead. APR comes after the flip here, and is what a captured pipeline cannot hold. Each epoch gives every
    image of the shard once, in another order; an epoch that is left early is followed by a new one. DALI captures one
    loop of a thread at a time.

    There is no `state_dict`: DALI's checkpoints of dynamic mode do not reach into captured epochs.

    Args:
        path: a folder of class folders, a file list, or what `apr_dali.data.folders.open_files` has found in them.
        batch_size: images per batch on this rank, before further views.
        aug: one of none, apr-p, apr-s, apr-sp.
        image_size: S in pixels.
        views: with APR-P, "both", or "mixed": one view per image.
        recipe, device, shard, seed, threads: see `apr_dali.ImageNetLoader`.

    Raises:
        InputError: for anything that a person can correct, before work starts.
        ImportError: if DALI is older than 2.3.
    """

    def __init__(
        self,
        path: str | Path | ImageSet,
        batch_size: int,
        aug: str = "none",
        *,
        image_size: int = 224,
        views: str = "both",
        recipe: AprRecipe = IMAGENET,
        device: str | torch.device = "cpu",
        shard: tuple[int, int] = (0, 1),
        seed: int = 0,
        threads: int | None = None,
    ) -> None:
        check_choice("aug", aug, AUGMENTATIONS)
        check_choice("views", views, VIEWS)
        check_size("image_size", image_size)
        options = BatchOptions(
            batch_size=batch_size, aug=aug, recipe=recipe, device=device, shard=shard, seed=seed, threads=threads
        )
        images = path if isinstance(path, ImageSet) else open_files(path, "DynamicLoader")
        check_shared_out(len(images), options.shard[1])
        self._images, self.classes, self.num_images = images, images.classes, len(images)
        self._options, self._image_size, self._views = options, int(image_size), views
        self.views = 2 if uses_pair(aug) and views == "both" else 1
        self.epoch = 0
        self._next: tuple[Any, Any] | None = None
        number = options.torch_device.index
        self._context = ndd.EvalContext(num_threads=options.pipeline_threads, device_id=number)

    def __len__(self) -> int:
        """Batches of one epoch, on every rank alike."""
        return ceil(ceil(self.num_images / self._options.shard[1]) / self._options.batch_size)

    def _rows(self, batch: int) -> int:
        """Images of this rank in a batch of its number: the reader fills the last one by repetition."""
        rank, world = self._options.shard
        images = self.num_images * (rank + 1) // world - self.num_images * rank // world
        return min(self._options.batch_size, max(images - batch * self._options.batch_size, 1))

    def _made(self) -> tuple[Any, Any]:
        """A reader whose first epoch is `epoch`, and the generator of its draws."""
        (rank, world), seed = self._options.shard, self._options.seed
        rng = ndd.random.RNG(seed=draws_seed(seed, rank, self.epoch))
        reader = ndd.readers.File(
            files=list(self._images.files),
            labels=self._images.labels.tolist(),
            shuffle_after_epoch=True,
            shuffle_after_epoch_seed=(seed + self.epoch * STREAM_STRIDE) % 2**63,
            pad_last_batch=True,
            shard_id=rank,
            num_shards=world,
        )
        return reader, rng

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch."""
        reader, rng = self._next or self._made()
        self._next = None  # one that is left in mid-epoch cannot begin another
        begun = False  # DALI refuses an epoch while another one runs, which goes on
        try:
            for batch, (images, labels) in enumerate(self._captured(reader, rng)):
                begun = True
                yield self._finished(images, labels, batch, rng)
            self._next = reader, rng
        finally:
            self.epoch += begun

    def _captured(self, reader: Any, rng: Any) -> Iterator[tuple[Any, Any]]:
        """The uint8 HWC crops of an epoch, and their labels. All of it is DALI's: it is captured."""
        device = capture.invariant(self._options.dali_device)
        size = capture.invariant([self._image_size] * 2)
        batch_size = self._options.batch_size
        for encoded, labels in reader.next_epoch(batch_size=batch_size, ctx=self._context, capture=True):
            crops = ndd.decoders.image_random_crop(
                encoded,
                device=device,
                random_area=capture.invariant(list(CROP_SCALE)),
                random_aspect_ratio=capture.invariant(list(CROP_RATIO)),
                output_type=types.RGB,
                adjust_orientation=False,
                jpeg_fancy_upsampling=True,
                rng=rng,
            )
            crops = ndd.resize(crops, size=size, interp_type=types.INTERP_LINEAR, antialias=True)
            mirror = ndd.random.coin_flip(batch_size=batch_size, rng=rng)
            yield ndd.flip(crops, horizontal=mirror), labels

    def _finished(self, images: Any, labels: Any, batch: int, rng: Any) -> tuple[Tensor, Tensor]:
        """Images and targets of a batch of crops, as the loader gives them."""
        rows, recipe, aug = self._rows(batch), self._options.recipe, self._options.aug
        if rows < images.batch_size:
            images = ndd.as_batch(images.tensors[:rows].tolist())
        targets = labels.torch()[:rows].flatten().to(self._options.torch_device, torch.int64)
        if uses_single(aug):
            images = apr_single(images, overflow=recipe.overflow, axes=recipe.axes, rng=rng)
        draws, views = PairDraws(np.arange(rows), mix=False), "mixed"  # normalization alone
        if uses_pair(aug):
            coin = coin_of(self._options.seed, self.epoch, batch)
            draws, views = draw_pair(rows, recipe.pair_probability, rng, coin), self._views
        images = apr_pair(images, draws=draws, views=views, axes=recipe.axes, **pair_scales(recipe)).torch()
        if views == "both":
            targets = targets.repeat_interleave(images.shape[1])
            images = images.flatten(0, 1)
        return images, targets
