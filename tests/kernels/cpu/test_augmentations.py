"""The augmentations beside APR in C++ against their definitions, at every level that this machine can run."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.augmentations import SIZES, drawn, planes
from helpers.forms import assert_close, assert_levels_close
from helpers.native_levels import EachLevel
from helpers.singles import levels_apart, various

import apr_dali
from apr_dali.augmentations import NAMES, apply, find
from apr_dali.errors import InputError

pytestmark = pytest.mark.usefixtures("native")

NATIVE = [name for name in NAMES if find(name).native_form and find(name).takes == "planes"]
OTHERS = [name for name in NAMES if not find(name).native_form]


def assert_is_the_definition(name: str, images: np.ndarray, each_level: EachLevel, seeds: int = 2) -> None:
    """Of floating images (N, C, H, W), with draws of several seeds; threads change no bit."""
    for seed in range(seeds):
        dataset = ("cifar10", "imagenet")[seed % 2]
        draws = drawn(find(name), len(images), images.shape[2:], seed, images.shape[1], dataset=dataset)
        given = images.astype(np.float32)
        expected = apply(name, given.astype(float), draws, backend="reference")
        for _ in each_level():
            got, again = (apply(name, given, draws, backend="native", threads=threads) for threads in (1, 2))
            np.testing.assert_array_equal(got, again)
            assert_close(name, torch.from_numpy(got), expected)


@pytest.mark.parametrize("size", [*SIZES, (64, 48), (32, 176)], ids=str)
@pytest.mark.parametrize("name", NATIVE)
def test_native_is_the_definition(name, size, each_level):
    assert_is_the_definition(name, np.random.default_rng(0).random((5, 3, *size)), each_level)


@pytest.mark.usefixtures("level")
def test_displacements_that_are_no_numbers_lead_into_the_image():
    """To its first pixel: what lies before the image in memory is not ours."""
    images = np.random.default_rng(0).random((2, 3, 16, 16)).astype(np.float32)
    draws = find("prime").sample(2, 16, 16, 0, channels=3)
    alike = replace(
        draws,
        mixture=np.ones_like(draws.mixture),
        operation=np.zeros_like(draws.operation),
        modes=tuple(np.full_like(modes, np.nan) for modes in draws.modes),
    )
    got = apply("prime", images, alike, backend="native")
    np.testing.assert_allclose(got, np.broadcast_to(images[..., :1, :1], images.shape), rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", NATIVE)
def test_other_numbers_of_channels(name, channels, each_level):
    assert_is_the_definition(name, np.random.default_rng(1).random((4, channels, 32, 32)), each_level)


@pytest.mark.parametrize("name", NATIVE)
def test_gray_black_and_flat_images(name, crops, each_level):
    images = planes(crops(6, 8, 16))
    images[0] = images[0, :1]
    images[1:4] = np.array([0, 0.5, 1])[:, None, None, None]
    assert_is_the_definition(name, images, each_level, seeds=4)


@pytest.mark.parametrize("overflow", ["clamp", "wrap", "truncate"])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", NATIVE)
def test_levels(name, channels, overflow, crops, each_level):
    images = np.ascontiguousarray(crops(6, 20, 35)[..., :channels])
    draws = drawn(find(name), 6, (20, 35), 1, channels)
    expected = apply(name, images, draws, overflow=overflow, backend="reference")
    for _ in each_level():
        apart = levels_apart(apply(name, images, draws, overflow=overflow, backend="native"), expected, overflow)
        assert_levels_close(name, apart)
        # Truncation turns around at whole levels, where an image stays nearly as it is.
        assert overflow != "clamp" or (apart > 0).mean() < 0.02


def noisy_levels_apart(images: np.ndarray, overflow: str, each_level: EachLevel, **settings: float) -> np.ndarray:
    """Gray levels off VIPAug-G's definition, (levels of the backend, N, H, W, 3), of uint8 images with noise on some;
    threads change no bit."""
    draws = find("vipaug-g").sample(len(images), *images.shape[1:3], 3, **settings)
    assert len(draws.noisy) > 1
    how = {"overflow": overflow}
    expected, apart = apply("vipaug-g", images, draws, backend="reference", **how), []
    for _ in each_level():
        got, again = (apply("vipaug-g", images, draws, backend="native", threads=threads, **how) for threads in (1, 2))
        np.testing.assert_array_equal(got, again)
        np.testing.assert_array_equal(got[~draws.views.mix], expected[~draws.views.mix])
        apart.append(levels_apart(got, expected, overflow))
    return np.stack(apart)


@pytest.mark.parametrize("size", [*SIZES, (2, 2), (5, 5), (64, 48)], ids=str)
# Noise of some degrees as published, and of half a turn.
@pytest.mark.parametrize("settings", [{}, {"vital": 0.5, "nonvital": 3.0, "p": 1.0}], ids=["published", "strong"])
def test_noise_on_phases_is_the_definition(settings, size, each_level):
    images = np.random.default_rng(2).integers(0, 256, (24, *size, 3), dtype=np.uint8)
    apart = noisy_levels_apart(images, "clamp", each_level, **settings)
    assert apart.max() <= tolerances.LEVELS
    assert (apart > 0).mean(axis=(1, 2, 3, 4)).max() < tolerances.LEVELS_SHARE_CLAMP


@pytest.mark.parametrize("overflow", ["clamp", "wrap", "truncate"])
def test_noise_on_phases_of_natural_gray_and_flat_images(overflow, crops, each_level):
    images = crops(24, 16, 20)
    images[:4] = images[:4, ..., :1]
    images[4:8] = np.array([0, 1, 128, 255], np.uint8)[:, None, None, None]
    # A flat image that is moved has bins of 0 but for rounding: any share of its values may be a level off.
    assert noisy_levels_apart(images, overflow, each_level).max() <= tolerances.LEVELS


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [(32, 32), (21, 34)], ids=str)
def test_phases_without_noise_are_apr_s(size, crops):
    images = various(np.random.default_rng(1), crops, 30, *size)
    draws = find("vipaug-g").sample(30, *size, 0, p=0.0)
    expected = apr_dali.single(images, draws.views, backend="native")
    np.testing.assert_array_equal(apply("vipaug-g", images, draws, backend="native"), expected)


@pytest.mark.parametrize("name", OTHERS)
def test_what_has_no_form_in_cpp_is_refused_by_name(name):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    with pytest.raises(InputError, match=re.escape(f"cannot run {name}: it has no form in C++")):
        apply(name, images, drawn(find(name), 2, (8, 8)), backend="native")


def test_float64_is_refused_and_auto_takes_torch_for_it():
    images = np.random.default_rng(0).random((2, 3, 8, 8))
    draws = drawn(find("afa"), 2, (8, 8))
    with pytest.raises(InputError, match="computes in float32, got float64"):
        apply("afa", images, draws, backend="native")
    np.testing.assert_array_equal(apply("afa", images, draws), apply("afa", images, draws, backend="torch"))


UNIT = [name for name in NATIVE if find(name).unit]


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("size", [(9, 8), (32, 32), (3, 37), (1, 1)], ids=str)
@pytest.mark.parametrize("bad", [7.0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("name", UNIT)
def test_images_that_are_not_in_0_to_1_are_refused(name, bad, size):
    """Wherever the value is, in the words of the backends that look at all values beforehand."""
    draws = drawn(find(name), 3, size)
    for place in ((0, 0, 0, 0), (1, 2, 0, -1), (2, 1, -1, 0), (2, 2, -1, -1)):
        images = np.full((3, 3, *size), 0.5, np.float32)
        images[place] = bad
        with pytest.raises(InputError) as by_torch:
            apply(name, images, draws, backend="torch")
        for threads in (1, 2):
            with pytest.raises(InputError, match=r"in 0\.\.1") as refused:
                apply(name, images, draws, backend="native", threads=threads)
            assert str(refused.value) == str(by_torch.value)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("name", UNIT)
def test_what_a_resampling_overshoots_and_no_image_at_all_are_taken(name):
    images = np.random.default_rng(0).uniform(-0.05, 1.05, (3, 3, 9, 8)).astype(np.float32)
    for given in (images, images[:0]):
        got = apply(name, given, drawn(find(name), len(given), (9, 8)), backend="native")
        assert got.shape == given.shape
        assert np.isfinite(got).all()
