"""Epochs that are left early: nothing is repeated, nothing is lost."""

import itertools

import numpy as np
import pytest
import torch
from helpers.gray_sets import BATCHES, COUNT, orders, same
from PIL import Image

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.data.arrays import ArraySet


def by_islice(loader):
    return list(itertools.islice(loader, 2))


def by_zip(loader):
    return [batch for batch, _ in zip(loader, range(1), strict=False)]


def by_break(loader):
    found = []
    for batch in loader:
        found.append(batch)
        if len(found) == 3:
            break
    return found


def by_next(loader):
    batches = iter(loader)
    return [next(batches)]


@pytest.mark.parametrize("leave", [by_islice, by_zip, by_break, by_next])
def test_an_epoch_that_was_left_is_not_repeated(make, leave):
    loader = make(aug="apr-s", seed=5)
    seen = [leave(loader) for _ in range(4)]
    assert loader.epoch == 3
    for one, other in itertools.combinations(seen, 2):
        assert not torch.equal(one[0][0], other[0][0])
    again = make(aug="apr-s", seed=5)
    assert all(same(leave(again), expected) for expected in seen)


def test_the_epoch_after_one_that_was_left_is_whole_and_in_another_order(make):
    loader = make(seed=5)
    left = orders(loader, itertools.islice(loader, 2))
    whole = orders(loader, loader)
    assert sorted(itertools.chain(*whole)) == list(range(COUNT))
    assert whole[:2] != left
    assert loader.epoch == 2
    following = orders(loader, loader)
    assert sorted(itertools.chain(*following)) == list(range(COUNT))
    assert following != whole


@pytest.mark.parametrize("kind", [ImageNetLoader, CifarLoader])
@pytest.mark.parametrize("rank", [0, 1])
def test_draws_differ_where_epochs_are_left(crops, tmp_path, kind, rank):
    """All images are one, so that only the draws can differ."""
    images = crops(1, 32, 32).repeat(8, axis=0)
    (tmp_path / "only").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "only" / f"{index}.png")
    source = tmp_path if kind is ImageNetLoader else ArraySet(images, np.zeros(8, np.int64), ("only",))
    size = {"image_size": 32} if kind is ImageNetLoader else {}
    seen = []
    for shard in ((rank, 2), (1 - rank, 2)):
        loader = kind(source, 2, seed=5, threads=1, shard=shard, **size)
        seen += [next(iter(loader))[0].numpy().tobytes() for _ in range(4)]
        assert loader.epoch == 3
    assert len(set(seen)) == 8


def test_all_batches_without_the_end_are_an_epoch(make):
    with make(aug="apr-s", seed=5) as loader:
        expected = [list(loader) for _ in range(3)]
    for on_break in ("new", "resume"):
        loader = make(aug="apr-s", seed=5, on_break=on_break)
        found = []
        for _ in range(3):
            batches = iter(loader)
            found.append([next(batches) for _ in range(len(loader))])
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_an_epoch_that_was_left_goes_on_where_that_is_asked_for(make):
    with make(aug="apr-s", seed=5) as loader:
        expected = [*loader, *loader]
    loader = make(aug="apr-s", seed=5, on_break="resume")
    found = []
    while loader.epoch < 2:
        found += itertools.islice(loader, 2)
    assert same(found, expected)


def test_an_evaluation_that_was_left_begins_again(make):
    loader = make(train=False)
    with make(train=False) as other:
        expected = list(other)
    next(iter(loader))
    assert same(list(loader), expected)


def test_an_iterator_that_gave_nothing_leaves_nothing(make):
    with make(seed=5) as loader:
        expected = orders(loader, loader)
    loader = make(seed=5)
    iter(loader)
    assert orders(loader, loader) == expected


def test_an_iterator_that_was_left_does_not_end_the_epoch_of_the_next(make):
    loader = make(seed=5, on_break="resume")
    old = iter(loader)
    next(old)
    new = iter(loader)
    for _ in range(BATCHES - 1):
        next(new)
    with pytest.raises(RuntimeError, match="iterated anew"):
        next(old)
    assert loader.epoch == 0
    assert list(new) == []
    assert loader.epoch == 1


def test_the_greatest_seed_works(make):
    loader = make(seed=2**63 - 1)
    by_next(loader)
    assert sorted(itertools.chain(*orders(loader, loader))) == list(range(COUNT))
