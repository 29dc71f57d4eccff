"""Images of tars drawn by weights, and several sources with weights: over epochs, processes and states."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from helpers.loaders import numbers_of, which
from helpers.tar_files import folder_of, jpeg

from apr_dali import ImageNetLoader
from apr_dali.data import tar_reader
from apr_dali.data.folders import open_set
from apr_dali.data.sampling import by_source, draw
from apr_dali.errors import InputError

SETTINGS = {"image_size": 16, "threads": 1, "seed": 3}


def tars_of(root: Path, *numbers: range) -> Path:
    """Tars of images that tell their numbers."""
    members = (
        [(f"{n:02d}.{e}", c) for n in each for e, c in (("jpg", jpeg(n)), ("cls", b"%d" % (n % 2)))] for each in numbers
    )
    return folder_of(root, *members)


@pytest.fixture
def two(tmp_path):
    """A set of 12 images in two tars and one of 4, joined."""
    return open_set([tars_of(tmp_path / "a", range(7), range(7, 12)), tars_of(tmp_path / "b", range(12, 16))])


def epoch(loader) -> list[int]:
    return list(itertools.chain(*numbers_of(loader)))


def test_a_share_of_each_source():
    weights = by_source((12, 4), (1, 3))
    np.testing.assert_allclose([weights[:12].sum(), weights[12:].sum()], [1, 3])
    assert len(set(weights[:12])) == len(set(weights[12:])) == 1
    with pytest.raises(InputError, match="a weight for each of 2 sources, got 3"):
        by_source((12, 4), (1, 2, 3))


def test_an_epoch_of_tars_is_what_the_weights_draw(two):
    weights = by_source(two.sources, (0.3, 0.7))
    with ImageNetLoader(two, 3, sampler=weights, **SETTINGS) as loader:
        epochs = [epoch(loader) for _ in range(3)]
    for number, found in enumerate(epochs):
        assert sorted(found) == sorted(draw(weights, 3, number).tolist())
        assert found != sorted(found)
    assert len({tuple(found) for found in epochs}) == 3


def test_a_source_without_weight_does_not_come(two):
    with ImageNetLoader(two, 3, sampler=by_source(two.sources, (0, 1)), **SETTINGS) as loader:
        assert set(epoch(loader)) <= set(range(12, 16))


@pytest.mark.parametrize("after", [1, 3])
def test_a_state_goes_on_with_the_same_batches(two, after):
    options = {**SETTINGS, "sampler": by_source(two.sources, (0.3, 0.7))}
    with ImageNetLoader(two, 3, **options) as loader:
        expected = numbers_of(loader) + numbers_of(loader)
    with ImageNetLoader(two, 3, **options) as loader:
        batches = iter(loader)
        found = [which(next(batches)[0], 12) for _ in range(after)]
        state = loader.state_dict()
    with ImageNetLoader(two, 3, **options) as loader:
        loader.load_state_dict(state)
        found += numbers_of(loader) + numbers_of(loader)
    assert found == expected
    options["sampler"] = by_source(two.sources, (0.4, 0.6))
    with ImageNetLoader(two, 3, **options) as loader, pytest.raises(ValueError, match="sampler"):
        loader.load_state_dict(state)


def test_processes_share_the_draws_of_an_epoch(two):
    weights = by_source(two.sources, (0.5, 0.5))
    found = []
    for rank in range(2):
        with ImageNetLoader(two, 4, shard=(rank, 2), sampler=weights, **SETTINGS) as loader:
            found += epoch(loader)
    assert sorted(found) == sorted(draw(weights, 3, 0).tolist())


def test_tars_come_in_another_order_each_epoch(two, tmp_path):
    orders = set()
    for number in range(6):
        drawn = draw(by_source(two.sources, (0.5, 0.5)), 3, number)
        orders.add(tar_reader.write(two, str(tmp_path), drawn).tars)
    assert len(orders) > 1
    assert all(len(set(order)) == len(order) for order in orders)


@pytest.mark.filterwarnings("ignore:left out")
def test_a_broken_sample_has_a_stand_in_wherever_it_is_drawn(two):
    weights = by_source(two.sources, (0.5, 0.5))
    broken = [two.names[12], two.names[3]]
    drawn = draw(weights, 3, 0).tolist()
    assert 12 in drawn
    with ImageNetLoader(two, 3, sampler=weights, **SETTINGS) as loader:
        loader.skipped = tuple(broken)
        assert sorted(epoch(loader)) == sorted(number for number in drawn if number not in (12, 3))


@pytest.mark.parametrize("sampler", ["balanced", {"cat": 1, "dog": 2}])
def test_weights_by_class_need_labels(two, sampler):
    with pytest.raises(InputError, match="sampler by class needs image files"):
        ImageNetLoader(two, 3, sampler=sampler, **SETTINGS)


def test_weights_of_another_number_of_images(two):
    with pytest.raises(InputError, match=r"a weight for each of the 16 images, got \(3,\)"):
        ImageNetLoader(two, 3, sampler=[1, 2, 3], **SETTINGS)
