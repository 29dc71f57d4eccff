"""torchdata: a loader as a node, which goes on from its state after any batch."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers.image_sets import noise_set

from apr_dali import CifarLoader
from apr_dali.errors import InputError

pytest.importorskip("torchdata.nodes")

from torchdata import nodes

from apr_dali.integrations.torchdata import LoaderNode

BATCHES = 3
"""Of an epoch."""


def loader_of(**options: Any) -> CifarLoader:
    return CifarLoader(noise_set(10, 8), 4, "apr-sp", **{"threads": 1, "seed": 3} | options)


def made(behind: Callable, **options: Any) -> Any:
    return nodes.Loader(behind(LoaderNode(loader_of(**options))))


def stream(loader: Any) -> Iterator[tuple[torch.Tensor, ...]]:
    """The batches of epoch after epoch."""
    while True:
        yield from loader


def take(batches: Iterator[Any], count: int) -> list[Any]:
    return [next(batches) for _ in range(count)]


def same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """torchdata's loaders are in cycles: left to chance, their end may come on a thread of their own pipeline."""
    yield
    gc.collect()


@pytest.fixture(params=["alone", "prefetched"])
def behind(request) -> Callable:
    """What stands between the node and torchdata's loader."""
    if request.param == "alone":
        return lambda node: node
    return lambda node: nodes.Prefetcher(node, prefetch_factor=2)


def test_its_epochs_are_the_loaders(behind):
    expected = [list(loader) for loader in [loader_of()] for _ in range(2)]
    loader = made(behind)
    epochs = [list(loader) for _ in range(2)]
    assert len(epochs[0]) == BATCHES
    assert all(map(same, epochs, expected))
    assert not same(*epochs)


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    """Three epochs of the loader itself."""
    return take(stream(loader_of()), 3 * BATCHES)


@pytest.mark.parametrize("count", range(1, 2 * BATCHES))
def test_a_state_goes_on_after_any_batch(behind, count, expected):
    first = made(behind)
    assert same(take(stream(first), count), expected[:count])
    state = json.loads(json.dumps(first.state_dict()))
    second = made(behind)
    second.load_state_dict(state)
    assert same(take(stream(second), 3 * BATCHES - count), expected[count:])


def test_a_state_of_an_epochs_end_begins_the_next_one(behind, expected):
    first, second = made(behind), made(behind)
    list(first)
    second.load_state_dict(first.state_dict())
    assert same(list(second), expected[BATCHES : 2 * BATCHES])


def test_the_state_of_a_fresh_one_is_the_beginning():
    first, second = (made(lambda node: node) for _ in range(2))
    second.load_state_dict(first.state_dict())
    assert same(list(second), list(loader_of()))
    assert same(list(first), list(loader_of()))


@pytest.mark.parametrize("on_break", ["new", "resume"])
def test_an_epoch_left_early_is_followed_as_the_loaders_own(on_break):
    node, alone = LoaderNode(loader_of(on_break=on_break)), loader_of(on_break=on_break)
    assert same([next(node)], [next(iter(alone))])
    node.reset()
    assert same(list(node), list(alone))
    assert node.loader.epoch == (2 if on_break == "new" else 1)


def test_what_is_no_loader_or_no_state_of_it_is_refused():
    with pytest.raises(InputError, match=r"takes an ImageNetLoader or a CifarLoader, got list"):
        LoaderNode([])
    state = made(lambda node: node).state_dict()
    other = made(lambda node: node, seed=4)
    other.load_state_dict(state)
    with pytest.raises(InputError, match="taken with other settings: seed 3, now 4"):
        next(iter(other))
