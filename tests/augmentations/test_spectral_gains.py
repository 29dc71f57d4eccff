"""Gains and masks: the definition on the full spectrum against NumPy's transform of half ones; the draws."""

import numpy as np
import pytest
import torch
from helpers.augmentations import SMALLER

from apr_dali.augmentations import apply, find
from apr_dali.augmentations.spectral_gains import _real_part

GAINS = find("spectral-gains")
EACH = {"amplitude": 1.0, "phase": 1.0, "mask": 1.0, "gaussian": 1.0}


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (8, 8), (9, 7), (10, 13), (13, 10)], ids=str)
def test_the_definition_is_the_half_spectrums(size):
    images = np.random.default_rng(0).random((4, 3, *size))
    draws = GAINS.sample(4, *size, 1, p=EACH, **SMALLER)
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1] // 2 + 1)
    got = GAINS.define(images, draws)
    for n in range(4):
        mask = np.ones((size[0], size[1] // 2 + 1))
        for (u, v), (s, t) in zip(draws.center[n], draws.sigma[n], strict=True):
            mask *= 1 - np.exp(-((rows - u) ** 2 / (2 * s**2) + (columns - v) ** 2 / (2 * t**2)))
        half = np.fft.rfft2(images[n])
        amplitude, phase = np.abs(half) * draws.gain[n], np.angle(half) + draws.shift[n]
        expected = np.fft.irfft2(amplitude * np.exp(1j * phase) * draws.keep[n] * mask, s=size)
        np.testing.assert_allclose(got[n], expected, atol=1e-13)


@pytest.mark.parametrize("size", [(1, 2), (8, 8), (9, 7), (6, 9), (5, 10)], ids=str)
def test_columns_that_mirror_themselves_are_made_those_of_a_real_image(size):
    """Not every library's inverse looks at both bins of a pair there."""
    random = np.random.default_rng(0)
    half = random.random((2, size[0], size[1] // 2 + 1)) + 1j * random.random((2, size[0], size[1] // 2 + 1))
    expected = np.fft.rfft2(np.fft.irfft2(half, s=size))
    np.testing.assert_allclose(_real_part(torch.from_numpy(half), size[1]).numpy(), expected, atol=1e-13)


def test_each_part_alone_does_its_own_thing(crops):
    images = crops(6, 12, 14).transpose(0, 3, 1, 2) / 255.0
    means = images.mean((2, 3))
    draws = find("phase-shift").sample(6, 12, 14, 0)
    shifted = apply("phase-shift", images, draws)
    np.testing.assert_allclose(shifted.mean((2, 3)), means * np.cos(draws.shift)[:, None])
    masked = apply("frequency-mask", images, find("frequency-mask").sample(6, 12, 14, 0))
    np.testing.assert_allclose(masked.mean((2, 3)), means)  # the zero frequency is kept
    assert (masked != images).any()
    draws = find("amplitude-rescale").sample(6, 12, 14, 0)
    scaled = apply("amplitude-rescale", images, draws)
    np.testing.assert_allclose(scaled.mean((2, 3)), means * draws.gain[:, :1, 0])
    middle = (slice(None), slice(None), slice(None), slice(1, 7))
    ratio = np.abs(np.fft.rfft2(scaled))[middle] / np.abs(np.fft.rfft2(images))[middle]
    np.testing.assert_allclose(ratio, np.broadcast_to(draws.gain[:, None, :, 1:7], ratio.shape), rtol=1e-6)


def test_gaussians_for_large_images_leave_nothing_of_small_ones():
    """As the module says, of noise."""
    left = {}
    for side in (32, 224):
        images = np.random.default_rng(0).random((4, 1, side, side))
        draws = find("gaussian-mask").sample(4, side, side, 0, channels=1)
        left[side] = np.sqrt((apply("gaussian-mask", images, draws) ** 2).mean() / (images**2).mean())
    assert left[32] < 1e-3
    assert 0.5 < left[224] < 1


def test_draws_have_their_published_distributions():
    draws = GAINS.sample(2000, 16, 16, 0)
    scaled = (draws.gain != 1).any((1, 2))
    assert abs(scaled.mean() - 0.2) < 0.04
    assert abs((draws.shift != 0).mean() - 0.2) < 0.04
    assert abs((~draws.keep).any((1, 2)).mean() - 0.5) < 0.04
    assert abs(draws.masked.mean() - 0.2) < 0.04
    gain = draws.gain[scaled]
    assert 0.8 <= gain.min() < 0.81
    assert 1.74 < gain.max() <= 1.75
    assert abs(gain.mean() - 1.275) < 0.01
    shift = draws.shift[draws.shift != 0]
    assert 0.4 <= shift.min() < 0.41
    assert 0.69 < shift.max() <= 0.7
    dropped = 1 - find("frequency-mask").sample(2000, 32, 32, 0).keep.mean((1, 2))
    assert abs(dropped.mean() - 0.055) < 0.005
    assert draws.keep[:, 0, 0].all()
    assert draws.center.shape == (2000, 20, 2)
    assert (draws.center.max((0, 1)) == (15, 8)).all()
    assert (draws.center.min((0, 1)) == 0).all()
    assert 10 <= draws.sigma.min() < 10.01
    assert 14.99 < draws.sigma.max() <= 15
