"""The CUDA kernels of the augmentations beside APR, run on the CPU, next to the definitions.

Twice: the sources thread by thread, in an order that finds what waits for nothing, and what NVRTC makes of them.
"""

import numpy as np
import pytest
from helpers import tolerances
from helpers.augmentations import drawn, planes
from helpers.forms import assert_close
from helpers.singles import levels_apart

from apr_dali.augmentations import NAMES, apply, find
from apr_dali.augmentations.functional import _by_cupy
from apr_dali.kernels.cuda import augmentations as cuda_augmentations

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.simulator, pytest.mark.slow]

KERNELS = [name for name in NAMES if find(name).cuda_form is not None]
PLANES = [name for name in KERNELS if find(name).takes == "planes"]
# The three ways of paths.py, then the smallest and those that fill no word.
SIZES = [(32, 32), (64, 64), (20, 33), (33, 20), (7, 9), (1, 7), (5, 1), (1, 1)]


@pytest.fixture
def host(simulated, install):
    return install(cuda_augmentations, simulated)


def on_device(record, images, draws, levels=None):
    return _by_cupy(record, images, draws, levels)


def noisy(crops, batch, size):
    """Levels may add up to a bin of 0, or of what rounding leaves of it, whose phase means nothing."""
    return 0.9 * planes(crops(batch, *size)) + 0.1 * np.random.default_rng(0).random((batch, 3, *size))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PLANES)
def test_floating_images_are_the_definitions(name, size, crops):
    record = find(name)
    images = noisy(crops, 3, size).astype(np.float32)
    for dataset in ("cifar10", "imagenet"):
        draws = drawn(record, 3, size, 1, dataset=dataset)
        got = on_device(record, images, draws)
        assert got.dtype == np.float32
        assert_close(name, torch.from_numpy(got), record.define(images.astype(np.float64), draws))


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (20, 15), (7, 9)], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_levels_are_the_definitions(name, size, crops):
    record, images = find(name), crops(3, *size)
    draws = drawn(record, 3, size)
    for overflow in dict.fromkeys((record.overflow, "clamp", "truncate", "wrap")):
        got = on_device(record, images, draws, overflow)
        assert got.dtype == np.uint8
        expected = apply(name, images, draws, backend="reference", overflow=overflow)
        apart = levels_apart(got, expected, overflow)
        assert (apart > tolerances.LEVELS).mean() <= (1e-3 if name == "prime" else 0)
        # An image that nothing changes has whole numbers, which a rounding takes across a border of "wrap".
        assert overflow == "wrap" or (apart > 0).mean() < 0.02


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("name", PLANES)
def test_other_numbers_of_channels(name, channels):
    record = find(name)
    images = np.random.default_rng(1).random((3, channels, 10, 13), np.float32)
    draws = drawn(record, 3, (10, 13), channels=channels)
    expected = record.define(images.astype(np.float64), draws)
    assert_close(name, torch.from_numpy(on_device(record, images, draws)), expected)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("size", [(32, 32), (64, 64), (8, 16)], ids=str)
@pytest.mark.parametrize("name", PLANES)
def test_gray_black_and_flat_images(name, size, crops):
    images = planes(crops(4, *size)).astype(np.float32)
    images[0], images[1], images[2] = images[0, :1], 0, 0.5
    for seed in range(2):
        draws = drawn(find(name), 4, size, seed)
        expected = find(name).define(images.astype(np.float64), draws)
        assert_close(name, torch.from_numpy(on_device(find(name), images, draws)), expected)


@pytest.mark.parametrize("name", KERNELS)
def test_no_images_give_no_images(name, host):
    record, images = find(name), np.empty((0, 6, 8, 3), np.uint8)
    assert on_device(record, images, drawn(record, 0, (6, 8)), record.overflow).shape == images.shape
    assert host.launched == []


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", KERNELS)
def test_images_and_draws_stay_as_they_are(name, crops):
    record, images = find(name), crops(3, 12, 10)
    draws, kept = drawn(record, 3, (12, 10)), images.copy()
    first = on_device(record, images, draws, record.overflow)
    np.testing.assert_array_equal(on_device(record, images, draws, record.overflow), first)
    np.testing.assert_array_equal(images, kept)
