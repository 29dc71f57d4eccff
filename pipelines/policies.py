"""What others do in DALI in the place of APR: its own augmentation policies in the training graphs, for benchmarks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nvidia.dali import fn, pipeline_def
from nvidia.dali.auto_aug import auto_augment, rand_augment, trivial_augment
from nvidia.dali.data_node import DataNode
from nvidia.dali.pipeline import Pipeline

from apr_dali.data.folders import ImageSet
from apr_dali.pipelines import cifar, imagenet
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.pipelines.graph import normalize
from apr_dali.pipelines.loader import ImageNetLoader

POLICIES: dict[str, Callable[[DataNode], DataNode]] = {
    "autoaugment": auto_augment.auto_augment_image_net,
    "trivialaugment": trivial_augment.trivial_augment_wide,
    # torchvision's defaults: two operations at 9 of 31 magnitudes.
    "randaugment": lambda images: rand_augment.rand_augment(images, n=2, m=9),
}
"""DALI's own augmentation policies."""


@pipeline_def(enable_checkpointing=True, enable_conditionals=True)
def policy_pipeline(source: ImageSet, graph: imagenet.Graph, policy: str) -> tuple[DataNode, DataNode]:
    """The ImageNet training graph with one of POLICIES in the place of APR."""
    encoded, labels = imagenet.read(source, graph.shard, seed=0, shuffle=True)
    images = imagenet.random_crop(encoded, graph)
    images = POLICIES[policy](imagenet.resize(images, (graph.image_size, graph.image_size)))
    return normalize(images, graph, fn.random.coin_flip()), labels


@pipeline_def(enable_checkpointing=True, enable_conditionals=True)
def small_policy_pipeline(
    source: cifar.Batches, graph: cifar.Graph, size: tuple[int, int], policy: str
) -> tuple[DataNode, DataNode]:
    """The CIFAR training graph with one of POLICIES in the place of APR."""
    images, labels = cifar.read(source, graph, "HWC")
    images = POLICIES[policy](cifar.crop(images, graph.fill, size))
    return normalize(images, graph, fn.random.coin_flip()), labels


class PolicyImageNetLoader(ImageNetLoader):
    """ImageNetLoader whose graph has one of DALI's policies."""

    def __init__(self, policy: str, *args: Any, **options: Any) -> None:
        self._policy = policy
        super().__init__(*args, **options)

    def _build(self, checkpoint: bytes | None) -> Pipeline:
        images = self._source()
        assert isinstance(images, ImageSet)
        options = self._graph.pipeline_options(
            self.batch_size, self._device.index, self._seed, self._stream, checkpoint
        )
        with _without_dalis_own_warnings():
            made = policy_pipeline(images, self._graph, self._policy, **options)
            made.build()
        return made


class PolicyCifarLoader(CifarLoader):
    """CifarLoader whose graph has one of DALI's policies."""

    def __init__(self, policy: str, *args: Any, **options: Any) -> None:
        self._policy = policy
        super().__init__(*args, **options)

    def _build(self, checkpoint: bytes | None) -> Pipeline:
        options = self._graph.pipeline_options(
            self.batch_size, self._device.index, self._seed, self._stream, checkpoint
        )
        source = cifar.Batches(self._data, self.batch_size, self.shard, self._seed, shuffle=True)
        size = (self._data.images.shape[1], self._data.images.shape[2])
        with _without_dalis_own_warnings():
            made = small_policy_pipeline(source, self._graph, size, self._policy, **options)
            made.build()
        return made


@contextmanager
def _without_dalis_own_warnings() -> Iterator[None]:
    """DALI's policies call operators by names that DALI itself has given up."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"WARNING: `nvidia\.dali\.fn\.experimental", DeprecationWarning)
        yield
