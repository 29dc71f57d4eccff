"""The loader of small images that lie in memory."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from nvidia.dali.pipeline import Pipeline
from torch import Tensor

from apr_dali.data.arrays import ArraySet
from apr_dali.data.fingerprint import fingerprint
from apr_dali.errors import InputError, check_choice
from apr_dali.pipelines import cifar
from apr_dali.pipelines.base import EpochLoader
from apr_dali.pipelines.batch_options import BatchArguments, BatchOptions, check_flag, takes_batch_arguments
from apr_dali.pipelines.graph import checksum
from apr_dali.recipes import CIFAR, CIFAR_AUGMENTATIONS, AprRecipe, uses_pair

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CifarLoader(EpochLoader):
    """Batches of small images that lie in memory, from a DALI pipeline; what ImageNetLoader says holds here too.

    Iterating gives one epoch of (images, targets) on `device`:

    - images: (V·B, 3, H, W) in `dtype`, normalized; V = `views`: 2 with APR-P (clean, mixed), 3 with AugMix (the
      image as it is, and mixed twice), else 1. The views of an image stand side by side. V = 1 in a batch that APR-P's
      coin leaves unmixed, unless `repeat_unmixed`.
    - targets: int64 (V·B,), or with `amplitude_labels` (V·B, 2): the label of the phase and of the amplitude.

    Args:
        data: the images, of one size; see `apr_dali.data.arrays.load_set`.
        aug: one of none, apr-p, apr-s, apr-sp, cutout, autoaugment, augmix; training only. Of mixup and cutmix the
            pipeline gives what they mix, as for none: see `apr_dali.training.losses`.
        flip: mirror half of the training images; not for digits, which then mean something else.
        fill: gray level of the 4 pixels round a training image from which crops are taken.
        single_probability: share of the images that APR-S changes.
        amplitude_labels: give the label of the image that each view has its amplitude from; APR-P only.

    `batch_size` and all other arguments are those of `apr_dali.pipelines.batch_options.BatchOptions`. What is raised is
    as ImageNetLoader says.
    """

    @takes_batch_arguments
    def __init__(
        self,
        data: ArraySet,
        batch_size: int,
        aug: str = "none",
        *,
        recipe: AprRecipe = CIFAR,
        flip: bool = True,
        fill: int = 128,
        single_probability: float = 1.0,
        amplitude_labels: bool = False,
        **batch: Unpack[BatchArguments],
    ) -> None:
        check_choice("aug", aug, CIFAR_AUGMENTATIONS)
        check_flag("flip", flip)
        options = BatchOptions(batch_size=batch_size, aug=aug, recipe=recipe, **batch)
        if amplitude_labels and not uses_pair(aug):
            raise InputError(
                f"amplitude_labels needs APR-P, whose views have an amplitude of another image: aug={aug!r}"
            )
        if options.policy != "none" and aug in cifar.ON_ARRAYS:
            raise InputError(f"aug={aug!r} is a policy itself: it does not go with policy={options.policy!r}")
        self._data, self._amplitude_labels = data, amplitude_labels
        self._weights = options.weights(data)
        self._graph = cifar.Graph(
            **options.for_graph(),
            flip=flip,
            fill=fill,
            single_probability=single_probability,
            amplitude_labels=amplitude_labels,
        )
        super().__init__(
            options, classes=data.classes, num_images=len(data), labels=data.labels, views=cifar.views(aug)
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
            handover=self._handover if self._graph.hands_over else None,
        )

    @cached_property
    def _fingerprint(self) -> int:
        return fingerprint(self._data)

    def _settings(self) -> dict[str, Any]:
        return self._graph.settings() | {"data": self._fingerprint, "sampler": checksum(self._weights)}

    def _targets(self, labels: Tensor, views: int) -> Tensor:
        if not self._amplitude_labels:
            return super()._targets(labels, views)
        own, labels = labels[:, :1], labels[:, :views]
        return torch.stack([own.expand_as(labels), labels], dim=2).to(torch.int64).flatten(0, 1)
