"""Random erasing: its rectangles against timm's, and what becomes of views."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.image_sets import noise_set
from timm.data.random_erasing import RandomErasing

from apr_dali import CifarLoader
from apr_dali.errors import InputError
from apr_dali.pipelines.erasing import AREA, ASPECT, DRAWS, rectangles
from apr_dali.recipes import CIFAR

SIDE, COUNT, BATCH = 24, 48, 8


def loader(aug="none", p=1.0, pair=1.0, **given) -> CifarLoader:
    recipe = replace(CIFAR, pair_probability=pair)
    return CifarLoader(
        noise_set(COUNT, SIDE, levels=120), BATCH, aug, threads=1, seed=2, random_erasing=p, recipe=recipe, **given
    )


def drawn(count: int, height: int, width: int, p: float = 1.0) -> np.ndarray:
    uniform = np.random.default_rng(1).random((count, DRAWS)).astype(np.float32)
    return rectangles(uniform, height, width, p)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 48), (12, 40)])
def test_areas_and_places_are_distributed_as_timms(height, width):
    count = 3000
    ours, theirs = [], []
    for top, left, high, wide in drawn(count, height, width):
        assert 0 <= top <= top + high <= height
        assert 0 <= left <= left + wide <= width
        ours.append((high * wide, top + high / 2, left + wide / 2, high / max(wide, 1)))
    random.seed(0)
    erase = RandomErasing(1.0, device="cpu")
    for _ in range(count):
        hole = (erase(torch.ones(1, height, width))[0] == 0).numpy()
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        high, wide = len(rows), len(columns)
        theirs.append((high * wide, rows.mean() + 0.5, columns.mean() + 0.5, high / wide))
    ours, theirs = np.array(ours), np.array(theirs)
    error = np.sqrt((ours.var(0) + theirs.var(0)) / count)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.1)


def test_area_and_aspect_are_uniform_in_their_ranges():
    side, count = 1000, 4000
    _, _, high, wide = drawn(count, side, side).T
    area, aspect = high * wide / side**2, np.log(high / wide)
    assert AREA[0] * 0.99 < area.min() < area.max() < AREA[1] * 1.01
    assert abs(area.mean() - sum(AREA) / 2) < 5 * (AREA[1] - AREA[0]) / math.sqrt(12 * count)
    assert np.abs(aspect).max() < math.log(ASPECT[1]) * 1.01
    assert abs(aspect.mean()) < 5 * 2 * math.log(ASPECT[1]) / math.sqrt(12 * count)


def test_the_share_of_images_is_p_and_the_others_get_none():
    found = drawn(4000, 32, 32, 0.25)
    erased = found[:, 2] > 0
    assert abs(erased.mean() - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)
    assert (found[~erased][:, 2:] == 0).all()
    assert (drawn(100, 32, 32, 0.0)[:, 2:] == 0).all()


def test_what_never_fits_stays_whole():
    # The first try's is higher than the image, the last one's is not; then none is not.
    uniform = np.full((2, DRAWS), 0.999, np.float32)
    uniform[:, 0] = 0.0
    assert (rectangles(uniform, 9, 60, 1.0)[:, 2:] == 0).all()
    uniform[0, -4:-2] = 0.1, 0.5
    assert (rectangles(uniform, 9, 60, 1.0)[:, 2:] > 0).all(1).tolist() == [True, False]
    ends = np.ones((1, DRAWS), np.float32)
    ends[:, 1:-2] = 0.5
    ends[:, 0] = 0.0
    top, left, high, wide = rectangles(ends, 20, 30, 1.0)[0]
    assert (top + high, left + wide) == (20, 30), "at the end of the range, which float32 reaches, it is at the border"


def holes(images: torch.Tensor) -> np.ndarray:
    """bool (N, H, W): where all channels are 0, the mean, which no pixel here has."""
    return (images == 0).all(1).numpy()


def assert_rectangles(found: np.ndarray) -> None:
    for hole in found:
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        assert hole.sum() == len(rows) * len(columns) > 0
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert columns[-1] - columns[0] + 1 == len(columns)


@pytest.mark.parametrize("aug", ["none", "apr-s", "apr-p", "apr-sp", "augmix"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_view_has_a_rectangle_of_its_own_and_else_the_pixels_it_had(aug, dtype):
    with loader(aug, dtype=dtype) as erasing, loader(aug, 0.0, dtype=dtype) as plain:
        for (images, targets), (whole, labels) in zip(erasing, plain, strict=True):
            assert torch.equal(targets, labels)
            found, views = holes(images), erasing.batch_views
            assert_rectangles(found)
            assert torch.equal(images * ~torch.from_numpy(found)[:, None], whole * ~torch.from_numpy(found)[:, None])
            if views > 1:
                assert not np.array_equal(found[::views], found[1::views])
            assert not np.array_equal(found[:views], found[views : 2 * views]), "nor do two images share it"


def test_views_that_are_one_and_the_same_stay_so():
    with loader("apr-p", pair=0.0, repeat_unmixed=True) as twice, loader("apr-p", pair=0.0) as once:
        for (both, _), (images, _) in zip(twice, once, strict=True):
            assert_rectangles(holes(images))
            for view in (0, 1):
                assert torch.equal(both[view::2], images)


def test_a_share_of_the_views():
    with loader("apr-p", 0.3) as erasing:
        erased = np.concatenate([holes(images).any((1, 2)) for _ in range(6) for images, _ in erasing])
    assert abs(erased.mean() - 0.3) < 4 * math.sqrt(0.21 / len(erased))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"random_erasing": 1.5}, "random_erasing must be in 0..1, got 1.5"),
        ({"random_erasing": 0.1, "train": False}, "random_erasing has no effect with train=False"),
    ],
)
def test_what_cannot_be_is_refused(given, told):
    with pytest.raises(InputError, match=told):
        CifarLoader(noise_set(COUNT, SIDE, levels=120), BATCH, threads=1, **given)
