"""Every augmentation: its form in torch against its definition, directly and through `apply`.

One that is added to the registry is tested here without another line.
"""

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.augmentations import SIZES, drawn, noisy_planes, planes, smaller
from helpers.forms import assert_close, assert_forms_agree, assert_levels_close
from helpers.singles import levels_apart

from apr_dali.augmentations import NAMES, apply, find, sample_and_apply

SINGLES = [name for name in NAMES if find(name).takes == "levels"]
PLANES = [name for name in NAMES if name not in SINGLES]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PLANES)
def test_the_form_in_torch_is_the_definition(name, size, crops):
    assert_forms_agree(find(name), noisy_planes(crops, 5, size))


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", PLANES)
def test_other_numbers_of_channels(name, channels):
    assert_forms_agree(find(name), np.random.default_rng(1).random((4, channels, 10, 13)))


@pytest.mark.parametrize("name", PLANES)
def test_gray_black_and_flat_images(name, crops):
    images = planes(crops(6, 8, 16))
    images[0] = images[0, :1]
    images[1] = 0
    images[2] = 0.5
    images[3] = 1
    assert_forms_agree(find(name), images, seeds=6)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", SINGLES)
def test_the_form_of_levels_is_the_definition(name, size, crops):
    record = find(name)
    images = crops(12, *size)
    images[0] = images[0, ..., :1]
    images[1] = 0
    for seed in range(2):
        draws = drawn(record, 12, size, seed)
        expected = record.define(images, draws)
        got = record.torch_form(torch.from_numpy(images), draws).double().numpy()
        apart = np.abs(got - expected)
        apart = np.minimum(apart, np.abs(256 - apart))  # what APR-S of a low part wraps around
        limit = tolerances.LEVELS if name == "hybrid++-s" else tolerances.AUGMENTATION_LEVELS
        assert apart.max() <= limit
        np.testing.assert_array_equal(got[~draws.views.mix], expected[~draws.views.mix])


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_apply_gives_levels_as_the_definition_does(name, library, crops):
    record, images = find(name), crops(8, 20, 15)
    kept = images.copy()
    given = images if library == "numpy" else torch.from_numpy(images)
    draws = drawn(record, 8, (20, 15))
    got, expected = (apply(name, given, draws, backend=backend) for backend in ("auto", "reference"))
    assert type(got) is type(given)
    assert np.asarray(got).dtype == np.uint8
    apart = levels_apart(np.asarray(got), np.asarray(expected), record.overflow)
    assert_levels_close(name, apart)
    np.testing.assert_array_equal(images, kept)


@pytest.mark.parametrize("name", PLANES)
def test_apply_keeps_the_dtype_and_the_images(name, crops):
    images = planes(crops(4, 12, 9))
    draws = drawn(find(name), 4, (12, 9))
    expected = apply(name, images, draws, backend="reference")
    for dtype in (np.float32, np.float64):
        given = images.astype(dtype)
        got = apply(name, given, draws)
        assert got.dtype == dtype
        np.testing.assert_array_equal(given, images.astype(dtype))
    assert_close(name, torch.from_numpy(got), expected)
    half = apply(name, torch.from_numpy(images).bfloat16(), draws)
    assert half.dtype == torch.bfloat16
    if name != "prime":
        assert np.abs(half.double().numpy() - expected).max() < 2 * tolerances.HALF_PRECISION["bfloat16"] * 2


@pytest.mark.parametrize("name", NAMES)
def test_draws_repeat_and_differ(name, crops):
    images, settings = crops(8, 12, 12), smaller(find(name))
    first, again = (sample_and_apply(name, images, 3, **settings) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    # A coin may leave one batch as it is.
    assert any((sample_and_apply(name, images, seed, **settings) != first).any() for seed in range(4, 9))
    generator = np.random.default_rng(3)
    np.testing.assert_array_equal(sample_and_apply(name, images, generator, **settings), first)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_none(name):
    images = np.empty((0, 6, 8, 3), np.uint8)
    assert sample_and_apply(name, images, 0).shape == images.shape
    assert apply(name, images, drawn(find(name), 0, (6, 8)), backend="reference").shape == images.shape


@pytest.mark.parametrize("name", NAMES)
def test_strided_images_are_images_like_others(name, crops):
    images = crops(4, 10, 24)
    draws = drawn(find(name), 4, (10, 12))
    strided = images[:, ::-1, ::2]
    np.testing.assert_array_equal(apply(name, strided, draws), apply(name, strided.copy(), draws))
