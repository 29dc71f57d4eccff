"""Methods with one coin for a batch: it is the same on all ranks, and a batch that it leaves alone comes once."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from helpers.image_sets import noise, noise_set, write_classes
from nvidia.dali import fn, pipeline_def

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.draws import coin_of
from apr_dali.errors import InputError
from apr_dali.pipelines import operators
from apr_dali.pipelines.graph import coin_seed

COUNT, BATCH = 24, 4
VIEWS = {"hybrid-p": 2, "hybrid++-ps": 2, "randconv": 3}
SHARES = {"hybrid-p": 0.6, "hybrid++-ps": 0.6, "randconv": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("images"), noise(COUNT, 20, 24))


@pytest.fixture(params=["files", "memory"])
def make(request, folder):
    """A function that makes a loader of each kind."""
    common = {"threads": 1, "seed": 4, "with_index": True}
    if request.param == "files":
        return lambda name, **given: ImageNetLoader(
            folder, **{"batch_size": BATCH, "aug": name, "image_size": 16} | common | given
        )
    return lambda name, **given: CifarLoader(
        noise_set(COUNT, 12), **{"batch_size": BATCH, "aug": name} | common | given
    )


def batches(loader, count: int = 2) -> list[tuple]:
    """(views, images, targets, index) of each batch of so many epochs."""
    with loader:
        return [(loader.batch_views, *batch) for _ in range(count) for batch in loader]


def coins(loader, count: int = 2) -> list[int]:
    return [views for views, *_ in batches(loader, count)]


@pytest.mark.parametrize("name", VIEWS)
def test_a_batch_that_is_left_alone_comes_once(make, name):
    views = VIEWS[name]
    found, expected = batches(make(name), 4), batches(make(name, repeat_unmixed=True), 4)
    assert {rows for rows, *_ in expected} == {views}
    assert {rows for rows, *_ in found} == {1, views}
    mixed = differing = 0
    for (rows, *parts), (_, *whole) in zip(found, expected, strict=True):
        assert [len(part) for part in parts] == [rows * BATCH] * 3
        alike = all(torch.equal(whole[0][::views], whole[0][view::views]) for view in range(1, views))
        assert alike or rows == views
        mixed += rows == views
        differing += not alike
        assert all(torch.equal(part[::rows], every[::views]) for part, every in zip(parts, whole, strict=True))
    # A partner may be the image itself, now and then for all of a small batch.
    assert differing > mixed / 2


@pytest.mark.parametrize("name", VIEWS)
def test_the_coin_is_a_function_of_seed_and_batch_in_any_number_of_processes(make, name):
    views, share = VIEWS[name], SHARES[name]
    seed, changed = coin_seed(4, 0), views if name == "randconv" else views - 1
    heads = [any(coin_of(seed, 0, batch, view, 0) < share for view in range(changed)) for batch in range(12)]
    expected = [1 + (views - 1) * head for head in heads]
    assert len(set(expected)) == 2
    assert coins(make(name)) == expected
    for world in (2, 4):
        common = {"batch_size": BATCH // world, "drop_last": True}
        ranks = [batches(make(name, shard=(rank, world), **common)) for rank in range(world)]
        assert all([rows for rows, *_ in found] == expected for found in ranks)
        assert not torch.equal(ranks[0][0][1], ranks[1][0][1]), "what else is drawn is each rank's own"


@pytest.mark.parametrize("name", ["hybrid-p", "randconv"])
@pytest.mark.parametrize("stop", [0, 4, 6, 9])
def test_a_state_continues_with_the_same_coins(make, name, stop):
    expected = batches(make(name))
    loader = make(name)
    list(itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), stop))
    state = json.loads(json.dumps(loader.state_dict()))
    loader.close()
    for repeats in (False, True):
        again = make(name, repeat_unmixed=repeats)
        again.load_state_dict(state)
        rest = batches(again)[: len(expected) - stop]
        for (rows, images, *_), (wanted, given, *_) in zip(rest, expected[stop:], strict=True):
            assert rows == (VIEWS[name] if repeats else wanted)
            assert torch.equal(images[::rows], given[::wanted])
            assert torch.equal(images[rows - 1 :: rows], given[wanted - 1 :: wanted])


@pytest.mark.parametrize("name", ["hybrid++-p", "afa", "prime", "vipaug"])
def test_draws_follow_seed_epoch_batch_and_rank_alone(make, name):
    common = {"shard": (0, 2), "batch_size": 3, "drop_last": True}
    expected = batches(make(name, **common), 2)
    assert len({float(images.double().sum()) for _, images, *_ in expected}) == len(expected)
    for same in ({"threads": 2}, {"memory_format": "channels_last"}):
        found = batches(make(name, **common | same), 2)
        assert all(torch.equal(one[1], other[1]) for one, other in zip(found, expected, strict=True)), same
    for other in ({"seed": 5}, {"shard": (1, 2)}):
        found = batches(make(name, **common | other), 1)
        assert not any(torch.equal(one[1], wanted[1]) for one, wanted in zip(found, expected, strict=False)), other


@pytest.mark.parametrize("name", ["hybrid-p", "randconv"])
def test_erased_views_of_a_batch_that_is_left_alone_stay_one(make, name):
    views = VIEWS[name]
    found, expected = (batches(make(name, random_erasing=0.8, repeat_unmixed=repeats), 4) for repeats in (False, True))
    assert {rows for rows, *_ in found} == {1, views}
    for (rows, images, *_), (_, whole, *_) in zip(found, expected, strict=True):
        assert torch.equal(images[::rows], whole[::views])
        assert rows > 1 or torch.equal(whole[::views], whole[views - 1 :: views])
    assert (found[0][1] == 0).all(1).any(), "something is erased"


def test_a_state_of_coins_of_each_rank_is_refused(make):
    loader = make("hybrid-p")
    state = loader.state_dict()
    del state["signature"]["coin"]
    with pytest.raises(InputError, match="coin None, now 'of all ranks'"):
        loader.load_state_dict(state)
    assert "coin" not in make("fda").state_dict()["signature"]
    assert "coin" not in make("apr-p").state_dict()["signature"]


@pipeline_def(num_threads=1, device_id=None, seed=5, exec_dynamic=True)
def graph(given, p, count):
    images = fn.external_source(source=lambda: given, batch=True, layout="HWC")
    coins = operators.draw_coins(7, count)
    return operators.augment(images, "hybrid-p", coins=coins[0]), coins, operators.any_heads(coins, p)


def test_the_operator_takes_its_coin_from_the_graph():
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
    made = graph(list(images), 0.6, 2, batch_size=3)
    made.build()
    changed = []
    for batch in range(12):
        found, coins, heads = (np.stack([np.asarray(sample) for sample in output]) for output in made.run())
        expected = np.float32([[coin_of(7, 0, batch, view, part) for part in range(2)] for view in range(2)])
        np.testing.assert_array_equal(coins, np.broadcast_to(expected, (3, 2, 2)))
        assert (heads == (expected[:, 0] < 0.6).any()).all()
        changed.append(bool((found != images).any()))
        assert expected[0, 0] < 0.6 or not changed[-1]
    assert len(set(changed)) == 2
    with pytest.raises(InputError, match="coins have no effect with fda"):
        operators.augment(None, "fda", coins=object())
