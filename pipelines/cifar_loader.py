"""The loader of small images that lie in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from nvidia.dali.pipeline import Pipeline
from torch import Tensor

from apr_dali.data.arrays import ArraySet
from apr_dali.data.fingerprint import fingerprint
from apr_dali.data.sampling import Sampler
from apr_dali.errors import InputError, check_choice
from apr_dali.pipelines import cifar
from apr_dali.pipelines.base import EpochLoader, check_arguments, default_threads
from apr_dali.pipelines.loader_settings import check_train, checksum, graph_settings, weights_for
from apr_dali.recipes import CHANNELS, CIFAR, CIFAR_AUGMENTATIONS, AprRecipe, uses_pair


class CifarLoader(EpochLoader):
    """Batches of small images that lie in memory, from a DALI pipeline; what ImageNetLoader says holds here too.

    Iterating gives one epoch of (images, targets) on `device`:

    - images: (V·B, 3, H, W) in `dtype`, normalized; V = `views`: 2 with APR-P (clean, mixed), 3 with AugMix (the
      image as it is, and mixed twice), else 1. The views of an image stand side by side.
    - targets: int64 (V·B,), or with `amplitude_labels` (V·B, 2): the label of the phase and of the amplitude.

    Args:
        data: the images, of one size; see `apr_dali.data.arrays.load_set`.
        batch_size: images per batch on this rank, before further views.
        aug: one of none, apr-p, apr-s, apr-sp, cutout, autoaugment, augmix; training only. Of mixup and cutmix the
            pipeline gives what they mix, as for none: see `apr_dali.training.losses`.
        train: random crops, flips and augmentation in shuffled order, or the images as they are, in their order.
        flip: mirror half of the training images; not for digits, which then mean something else.
        fill: gray level of the 4 pixels round a training image from which crops are taken.
        single_probability: share of the images that APR-S changes.
        amplitude_labels: give the label of the image that each view has its amplitude from; APR-P only.

    The other arguments and what is raised are ImageNetLoader's.
    """

    def __init__(
        self,
        data: ArraySet,
        batch_size: int,
        aug: str = "none",
        *,
        train: bool = True,
        device: str = "cpu",
        device_id: int = 0,
        shard: tuple[int, int] = (0, 1),
        seed: int = 0,
        dtype: str = "float32",
        memory_format: str = "contiguous",
        threads: int | None = None,
        drop_last: bool = False,
        recipe: AprRecipe = CIFAR,
        in_chans: int = 3,
        with_index: bool = False,
        on_break: str = "new",
        backend: str = "auto",
        flip: bool = True,
        fill: int = 128,
        single_probability: float = 1.0,
        amplitude_labels: bool = False,
        sampler: Sampler = "shuffle",
    ) -> None:
        check_choice("aug", aug, CIFAR_AUGMENTATIONS)
        check_choice("in_chans", in_chans, CHANNELS)
        check_train(aug, train)
        check_arguments(
            device=device,
            device_id=device_id,
            dtype=dtype,
            memory_format=memory_format,
            shard=shard,
            seed=seed,
            on_break=on_break,
            threads=threads,
            at_least_one={"batch_size": batch_size},
            recipe=recipe,
            backend=backend,
            flags={"train": train, "drop_last": drop_last, "with_index": with_index, "flip": flip},
        )
        if amplitude_labels and not uses_pair(aug):
            raise InputError(
                f"amplitude_labels needs APR-P, whose views have an amplitude of another image: aug={aug!r}"
            )
        self._data, self._amplitude_labels = data, amplitude_labels
        self._weights = weights_for(sampler, train, data)
        self._graph = cifar.Graph(
            device,
            aug,
            recipe.gray() if in_chans == 1 else recipe,
            dtype,
            backend,
            threads or default_threads(device),
            shard,
            flip,
            fill,
            single_probability,
            amplitude_labels,
            in_chans,
        )
        super().__init__(
            classes=data.classes,
            num_images=len(data),
            labels=data.labels,
            batch_size=batch_size,
            shard=shard,
            train=train,
            views=cifar.views(aug),
            in_chans=in_chans,
            seed=seed,
            device=device,
            device_id=device_id,
            dtype=dtype,
            memory_format=memory_format,
            drop_last=drop_last,
            with_index=with_index,
            on_break=on_break,
        )

    def _build(self, checkpoint: bytes | None) -> Pipeline:
        return cifar.build(
            self._data,
            self._graph,
            train=self.train,
            batch_size=self.batch_size,
            device_id=self._device.index,
            seed=self._seed,
            stream=self._stream,
            weights=self._weights,
            checkpoint=checkpoint,
        )

    @cached_property
    def _fingerprint(self) -> int:
        return fingerprint(self._data)

    def _settings(self) -> dict[str, Any]:
        return graph_settings(self._graph) | {"data": self._fingerprint, "sampler": checksum(self._weights)}

    def _targets(self, labels: Tensor) -> Tensor:
        if not self._amplitude_labels:
            return super()._targets(labels)
        own = labels[:, :1]
        return torch.stack([own.expand_as(labels), labels], dim=2).to(torch.int64).flatten(0, 1)
