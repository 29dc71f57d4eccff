"""The torch backend against the float64 reference, through the public functions."""

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.singles import assert_agrees, only_first
from helpers.tolerances import relative

import apr_dali
from apr_dali import spectral
from apr_dali.draws import OPERATIONS, SingleDraws

SIZES = [(1, 1), (1, 7), (5, 1), (8, 8), (7, 9), (33, 20), (20, 33), (32, 32), (224, 224)]


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_recombine_is_the_reference(size, axes, crops):
    images = crops(4, *size).transpose(0, 3, 1, 2) / 255.0 + 0.1
    first, second = images[:2], images[2:]
    expected = spectral.recombine(first, second, axes)
    single = [torch.from_numpy(x.astype(np.float32)) for x in (first, second)]
    assert relative(apr_dali.recombine(*single, axes=axes, backend="torch"), expected) < tolerances.RECOMBINE_FLOAT32
    double = [torch.from_numpy(x) for x in (first, second)]
    got = apr_dali.recombine(*double, axes=axes, backend="torch")
    assert got.dtype == torch.float64
    assert relative(got, expected) < tolerances.RECOMBINE_FLOAT64


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels(channels):
    images = np.random.default_rng(0).random((4, channels, 12, 15)) + 0.1
    got = apr_dali.recombine(images[:2], images[2:], backend="torch")
    assert relative(got, spectral.recombine(images[:2], images[2:])) < tolerances.RECOMBINE_FLOAT64


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (32, 32)], ids=str)
def test_gray_images_keep_their_exact_zeros(size, axes, crops):
    gray, color = crops(2, *size, seed=2)
    gray = np.repeat(gray[..., :1], 3, axis=-1)
    for first, second in ((gray, color), (color, gray)):
        planes = [x[None].transpose(0, 3, 1, 2).astype(np.float32) / 255 for x in (first, second)]
        got = apr_dali.recombine(*planes, axes=axes, backend="torch")
        assert relative(got, spectral.recombine(*planes, axes)) < tolerances.RECOMBINE_FLOAT32


def test_a_black_image_takes_the_amplitude_with_phase_zero(crops):
    black = np.zeros((1, 3, 16, 16), np.float32)
    other = crops(1, 16, 16).transpose(0, 3, 1, 2).astype(np.float32) / 255
    got = apr_dali.recombine(black, other, backend="torch")
    assert relative(got, spectral.recombine(black, other)) < tolerances.RECOMBINE_FLOAT32
    assert np.isfinite(apr_dali.recombine(other, black, backend="torch")).all()


MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.mark.parametrize("given", ["uint8", "float32", "strided"])
@pytest.mark.parametrize("size", [(9, 14), (32, 32)], ids=str)
def test_pair_scales_mixes_and_scales_again(size, given, crops):
    images = crops(7, *size)
    if given == "float32":
        images = images.transpose(0, 3, 1, 2).astype(np.float32)
    if given == "strided":
        images = np.repeat(images, 2, axis=2)[:, ::-1, ::2]
    partner = np.random.default_rng(1).permutation(7)
    scales = {"in_scale": 1 / (255 * STD), "in_bias": -MEAN / STD, "out_scale": (0.5, 2, 1), "out_bias": 0.25}
    x = spectral.to_planes(images) / 255
    x = (x - MEAN[:, None, None]) / STD[:, None, None]
    expected = spectral.recombine(x, x[partner]) * np.array([0.5, 2, 1])[:, None, None] + 0.25
    got = apr_dali.pair(images, partner, **scales, backend="torch")
    assert got.dtype == np.float32
    assert relative(got, expected) < tolerances.RECOMBINE_FLOAT32
    assert relative(apr_dali.pair(images, partner, **scales, backend="reference"), expected) < 1e-6
    for backend in ("torch", "reference"):
        last = apr_dali.pair(images, partner, **scales, memory_format="channels_last", backend=backend)
        np.testing.assert_array_equal(last, apr_dali.pair(images, partner, **scales, backend=backend))
        assert last.transpose(0, 2, 3, 1).flags.c_contiguous
    both = apr_dali.pair(images, partner, **scales, with_clean=True, backend="torch")
    np.testing.assert_array_equal(both[:, 1], got)
    clean = x * np.array([0.5, 2, 1])[:, None, None] + 0.25
    assert relative(both[:, 0], clean) < 1e-6
    unmixed = apr_dali.pair(images, partner, False, **scales, with_clean=True, backend="torch")
    np.testing.assert_array_equal(unmixed[:, 1], both[:, 0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_pair_in_half_precision_is_the_rounded_result(dtype, crops):
    images, partner = torch.from_numpy(crops(4, 24, 24)), np.array([1, 2, 3, 0])
    full = apr_dali.pair(images, partner, in_scale=1 / 255, backend="torch").numpy()
    half = apr_dali.pair(images, partner, in_scale=1 / 255, dtype=dtype, backend="torch")
    assert half.dtype == getattr(torch, dtype)
    apart = np.abs(half.float().numpy() - full)
    assert (apart <= tolerances.HALF_PRECISION[dtype] * np.abs(full) + 1e-6).all()
    assert apart.max() > 0


def test_a_batch_of_one_or_none(crops):
    one = crops(1, 10, 11)
    alone = apr_dali.pair(one, np.array([0]), in_scale=1 / 255, backend="torch")
    assert relative(alone, one.transpose(0, 3, 1, 2) / 255.0) < tolerances.RECOMBINE_FLOAT32
    none = one[:0]
    assert apr_dali.pair(none, np.array([], int), backend="torch").shape == (0, 3, 10, 11)
    assert apr_dali.single(none, SingleDraws.sample(0, 10, 11, 0), backend="torch").shape == (0, 10, 11, 3)


def test_inputs_are_left_as_they_are(crops):
    images = crops(6, 16, 16)
    kept = images.copy()
    apr_dali.single(images, SingleDraws.sample(6, 16, 16, 3), backend="torch")
    floats = images.transpose(0, 3, 1, 2).astype(np.float32)
    apr_dali.pair(floats, np.arange(6)[::-1].copy(), backend="torch")
    np.testing.assert_array_equal(images, kept)
    np.testing.assert_array_equal(floats, kept.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 16), (40, 56)], ids=str)
def test_operations_are_the_references_bit_for_bit(size, crops):
    images = np.concatenate([crops(60, *size), np.full((4, *size, 3), 7, np.uint8)])
    images[:8] //= 9
    draws = only_first(SingleDraws.sample(64, *size, seed=8))
    assert set(draws.operation[:, 0]) == set(range(len(OPERATIONS)))
    expected = apr_dali.single(images, draws, backend="reference")
    np.testing.assert_array_equal(apr_dali.single(images, draws, backend="torch"), expected)


@pytest.mark.parametrize("axes", spectral.AXES)
@pytest.mark.parametrize("overflow", spectral.OVERFLOWS)
@pytest.mark.parametrize("size", [(32, 32), (45, 30)], ids=str)
def test_single_is_the_reference(size, overflow, axes, crops):
    images = crops(40, *size, seed=6)
    draws = SingleDraws.sample(40, *size, seed=2)
    got = apr_dali.single(images, draws, overflow=overflow, axes=axes, backend="torch")
    expected = apr_dali.single(images, draws, overflow=overflow, axes=axes, backend="reference")
    assert_agrees(got, expected, draws.mix, overflow)


def test_wrap_and_clamp_differ_where_values_leave_the_range(crops):
    images = crops(40, 32, 32, seed=6)
    draws = SingleDraws.sample(40, 32, 32, seed=2)
    wrap, clamp = (apr_dali.single(images, draws, overflow=o, backend="torch").astype(int) for o in ("wrap", "clamp"))
    mixed = np.abs(wrap - clamp)[draws.mix]
    assert 0.005 < (mixed > 200).mean() < 0.3
