"""Batches that APR-P's coin leaves unmixed: they come once, at the same steps on all ranks."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.forked import in_two
from helpers.image_sets import noise, noise_set, write_classes
from nvidia.dali import fn, pipeline_def

from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.draws import coin_of
from apr_dali.errors import InputError
from apr_dali.pipelines import operators
from apr_dali.recipes import CIFAR

COUNT, BATCH = 36, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("images"), noise(COUNT, 20, 24))


@pytest.fixture(params=["files", "memory", "amplitudes"])
def make(request, folder):
    """A function that makes a loader of each kind."""
    common = {"aug": "apr-sp", "threads": 1, "seed": 3, "with_index": True}
    if request.param == "files":
        return lambda **given: ImageNetLoader(folder, **{"batch_size": BATCH, "image_size": 16} | common | given)
    common["amplitude_labels"] = request.param == "amplitudes"
    return lambda **given: CifarLoader(noise_set(COUNT, 12), **{"batch_size": BATCH} | common | given)


def epochs(loader, count: int = 2) -> list[tuple]:
    """(views, images, targets, index) of each batch."""
    return [(loader.batch_views, *batch) for _ in range(count) for batch in loader]


def coins(loader, count: int = 2) -> list[int]:
    return [views for views, *_ in epochs(loader, count)]


def test_an_unmixed_batch_comes_once_and_a_mixed_one_in_both_views(make):
    with make() as once, make(repeat_unmixed=True) as repeated:
        assert once.views == repeated.views == 2
        found, expected = epochs(once), epochs(repeated)
    assert {views for views, *_ in expected} == {2}
    assert {views for views, *_ in found} == {1, 2}
    for (views, *parts), (_, *whole) in zip(found, expected, strict=True):
        assert [len(part) for part in parts] == [views * BATCH] * 3
        assert [len(part) for part in whole] == [2 * BATCH] * 3
        if views == 2:
            assert all(map(torch.equal, parts, whole))
            assert not torch.equal(whole[0][::2], whole[0][1::2])
        else:
            for view in (0, 1):
                assert all(torch.equal(part, both[view::2]) for part, both in zip(parts, whole, strict=True))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_batches_or_none_are_mixed(make, p):
    with make(recipe=replace(CIFAR, pair_probability=p)) as loader:
        assert set(coins(loader)) == {1 + int(p)}


def test_coins_come_by_their_share_and_differ_between_seeds_and_epochs():
    drawn = np.array([[coin_of(seed, 0, n) for n in range(400)] for seed in range(5)])
    assert 0 <= drawn.min() < drawn.max() < 1
    assert np.abs((drawn < 0.3).mean(1) - 0.3).max() < 4 * np.sqrt(0.21 / 400)
    assert len(np.unique(drawn)) > 1990
    assert (drawn == drawn.astype(np.float32)).all()


def test_the_coin_is_the_same_in_any_number_of_processes(make):
    expected = coins(make(), 3)
    assert set(expected) == {1, 2}
    for world in (2, 4):
        ranks = [make(batch_size=BATCH // world, shard=(rank, world), drop_last=True) for rank in range(world)]
        found = [epochs(loader, 3) for loader in ranks]
        assert all([views for views, *_ in batches] == expected for batches in found)
        # What else is drawn stays each rank's own.
        assert not torch.equal(found[0][0][1], found[1][0][1])


def test_the_coin_follows_the_seed(make):
    assert coins(make()) == coins(make())
    assert len({tuple(coins(make(seed=seed))) for seed in range(4)}) > 1


@pytest.mark.parametrize("stop", [0, 3, 8, 9, 14])
def test_a_state_continues_with_the_same_coins(make, stop):
    expected = epochs(make())
    loader = make()
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    list(itertools.islice(endless, stop))
    state = json.loads(json.dumps(loader.state_dict()))
    # A state is of the images: one loader may give them once and the other as often as they are.
    for repeats in (False, True):
        again = make(repeat_unmixed=repeats)
        again.load_state_dict(state)
        rest = epochs(again)[: len(expected) - stop]
        for (views, images, *_), (wanted, given, *_) in zip(rest, expected[stop:], strict=True):
            assert views == (2 if repeats else wanted)
            assert torch.equal(images[::views], given[::wanted])
            assert torch.equal(images[views - 1 :: views], given[wanted - 1 :: wanted])


_RANKS = """
import json, sys
import numpy as np
import torch.distributed as dist
from apr_dali import CifarLoader, ImageNetLoader
from apr_dali.data.arrays import ArraySet
from apr_dali.runtime.distributed import start

with start("cpu") as group:
    common = {"aug": "apr-sp", "threads": 1, "seed": 3, "shard": (group.rank, group.world), "drop_last": True}
    pixels = np.random.default_rng(0).integers(0, 256, (36, 12, 12, 3), np.uint8)
    small = CifarLoader(ArraySet(pixels, np.arange(36) % 3, ("a", "b", "c")), 2, **common)
    for loader in (small, ImageNetLoader(sys.argv[1], 2, image_size=16, **common)):
        mine = [(loader.batch_views, float(images.sum())) for _ in range(2) for images, _ in loader]
        everyone = [None] * group.world
        dist.all_gather_object(everyone, mine)
        if group.main:
            print(json.dumps(everyone))
"""


@pytest.mark.slow
def test_two_processes_have_the_same_coin_at_every_step(folder, tmp_path):
    (tmp_path / "ranks.py").write_text(_RANKS)
    done = in_two("ranks.py", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")]
    assert len(kinds) == 2
    for first, second in kinds:
        assert [views for views, _ in first] == [views for views, _ in second]
        assert {views for views, _ in first} == {1, 2}
        assert all(one != other for (_, one), (_, other) in zip(first, second, strict=True))


# ---- the operator ----------------------------------------------------------------------------------------------------


@pipeline_def(num_threads=1, device_id=None, seed=5, exec_dynamic=True)
def graph(images, options):
    return operators.apr_pair(fn.external_source(source=lambda: images, batch=True, layout="CHW"), **options)


def shapes(batch: int, **options) -> list[tuple[int, ...]]:
    images = np.random.default_rng(1).random((batch, 3, 8, 8), np.float32)
    made = graph(images, options, batch_size=batch)
    made.build()
    return [made.run()[0].as_tensor().shape() for _ in range(16)]


def test_the_operator_gives_one_view_of_an_unmixed_batch():
    found = shapes(3, coin_seed=7)
    assert set(map(tuple, found)) == {(3, 1, 3, 8, 8), (3, 2, 3, 8, 8)}
    assert [shape[1] for shape in found] == [1 + (coin_of(7, 0, n) < 0.5) for n in range(16)]
    assert [shape[1] for shape in shapes(5, coin_seed=7)] == [shape[1] for shape in found]
    assert {tuple(shape) for shape in shapes(3, repeat_unmixed=True)} == {(3, 2, 3, 8, 8)}
    assert {tuple(shape) for shape in shapes(3, views="mixed")} == {(3, 3, 8, 8)}
    # Without a seed of its own it follows the pipeline's.
    assert {shape[1] for shape in shapes(3)} == {1, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeat_unmixed": 2}, "repeat_unmixed must be one of False, True"),
        ({"repeat_unmixed": True, "views": "mixed"}, "repeat_unmixed has no effect with views='mixed'"),
        ({"coin_seed": -1}, "coin_seed must be at least 0"),
        ({"coin_seed": 1, "draws": (None, None)}, "coin_seed has no effect with draws"),
    ],
)
def test_what_the_operator_refuses(options, message):
    with pytest.raises(InputError, match=message):
        shapes(2, **options)


def test_what_loaders_refuse(folder):
    for aug in ("none", "apr-s"):
        with pytest.raises(InputError, match=f"repeat_unmixed has no effect with aug='{aug}'"):
            ImageNetLoader(folder, BATCH, aug, repeat_unmixed=True)
    with pytest.raises(InputError, match="repeat_unmixed has no effect with views='mixed'"):
        ImageNetLoader(folder, BATCH, "apr-p", views="mixed", repeat_unmixed=True)
    with pytest.raises(InputError, match="repeat_unmixed must be True or False, got 1"):
        CifarLoader(noise_set(COUNT, 12), BATCH, "apr-p", repeat_unmixed=1)
