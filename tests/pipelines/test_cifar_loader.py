"""The CIFAR loader: its epochs, shards, states and arguments."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from helpers.cifar_images import levels
from helpers.loaders import orders_of

from apr_dali import CifarLoader
from apr_dali.data.arrays import ArraySet
from apr_dali.errors import InputError

COUNT, SIZE = 19, 12


def flat_set(count: int = COUNT) -> ArraySet:
    """Images of one gray level each, which tells which one it is: the middle is in every crop."""
    images = np.empty((count, SIZE, SIZE, 3), np.uint8)
    images[:] = (np.arange(count) * 13 % 256)[:, None, None, None]
    return ArraySet(images, np.arange(count) % 2, ("even", "odd"))


def epoch(loader) -> list[int]:
    seen = []
    for images, targets in loader:
        found = (levels(images)[:, 0, SIZE // 2, SIZE // 2] / 13).round().astype(int).tolist()
        assert [index % 2 for index in found] == targets.tolist()
        seen += found
    return seen


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_image_once_an_epoch(world, train):
    loaders = [CifarLoader(flat_set(), 4, train=train, shard=(r, world), seed=3, threads=1) for r in range(world)]
    orders = orders_of(loaders, epoch, COUNT, train)
    if not train:
        assert list(itertools.chain(*orders[0])) == list(range(COUNT))


def test_the_order_follows_the_seed_and_not_the_augmentation():
    runs = [
        CifarLoader(flat_set(), 4, aug, seed=seed, threads=1) for seed, aug in ((1, "none"), (1, "cutmix"), (2, "none"))
    ]
    first, again, other = ([epoch(loader), epoch(loader)] for loader in runs)
    assert first == again != other
    labels = [
        [t for _, targets in CifarLoader(flat_set(), 4, aug, seed=1, threads=1) for t in targets.tolist()]
        for aug in ("apr-s", "cutout", "autoaugment")
    ]
    assert labels == [[index % 2 for index in first[0]]] * 3


@pytest.mark.parametrize("aug", ["apr-sp", "cutout", "augmix"])
@pytest.mark.parametrize(("stop", "drop_last"), [(0, True), (1, False), (4, True), (5, False), (6, False)])
def test_state_continues_in_mid_epoch_with_identical_batches(aug, stop, drop_last):
    def make_loader():
        return CifarLoader(flat_set(), 2, aug, seed=5, shard=(1, 2), drop_last=drop_last, threads=1)

    uninterrupted = make_loader()
    batches = [*uninterrupted, *uninterrupted]
    interrupted = make_loader()
    ahead = list(itertools.islice(itertools.chain(interrupted, interrupted), stop))
    state = interrupted.state_dict()
    interrupted.close()
    resumed = make_loader()
    resumed.load_state_dict(state)
    rest = list(resumed)
    while resumed.epoch < 2:
        rest += list(resumed)
    assert len(ahead) + len(rest) == len(batches)
    for (images, targets), (expected, labels) in zip(rest, batches[stop:], strict=True):
        assert torch.equal(images, expected)
        assert torch.equal(targets, labels)


def test_state_of_other_images_is_refused():
    state = CifarLoader(flat_set(), 4, threads=1).state_dict()
    other = flat_set()
    other.labels[:] = 0
    with pytest.raises(InputError, match="data"):
        CifarLoader(other, 4, threads=1).load_state_dict(state)
    with pytest.raises(InputError, match="flip True, now False"):
        CifarLoader(flat_set(), 4, threads=1, flip=False).load_state_dict(state)


@pytest.mark.parametrize(("options", "message"), [
    ({"aug": "apr"}, "aug must be one of none, apr-p"),
    ({"aug": "cutout", "train": False}, "no effect"),
    ({"batch_size": 20, "drop_last": True}, "batch_size 20 gives no batch"),
    ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"shard": (2, 2)}, "rank < world size"),
    ({"single_probability": 1.5}, r"single_probability must be in 0\.\.1"),
    ({"fill": 256}, r"fill must be in 0\.\.255"),
    ({"amplitude_labels": True}, "amplitude_labels needs APR-P"),
])  # fmt: skip
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        CifarLoader(flat_set(), **{"batch_size": 4, "threads": 1, **options})
