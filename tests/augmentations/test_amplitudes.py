"""Amplitude mix and FDA: the definitions against the released codes' slices of shifted full spectra."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import tolerances

from apr_dali.augmentations import apply, find
from apr_dali.augmentations.amplitude_mix import AmplitudeMixDraws
from apr_dali.augmentations.fda import FdaDraws

SIZES = [(8, 8), (9, 12), (12, 9), (7, 7), (1, 6), (16, 10)]


def by_shifted_spectra(own: np.ndarray, given: np.ndarray, box: tuple[slice, slice], share: float) -> np.ndarray:
    """One channel (H, W): amplitudes mixed in a box of the shifted spectrum, everything else as it is."""
    first, second = np.fft.fft2(own), np.fft.fft2(given)
    mixed, other = np.fft.fftshift(np.abs(first)), np.fft.fftshift(np.abs(second))
    mixed[box] = share * other[box] + (1 - share) * mixed[box]
    return np.real(np.fft.ifft2(np.fft.ifftshift(mixed) * np.exp(1j * np.angle(first))))


def others(draws):
    """The same draws, with no image for its own partner."""
    return replace(draws, partner=np.roll(np.arange(len(draws)), 1))


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.3, 0.1, 0.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_amplitude_mix_is_the_published_formula(size, ratio):
    images = np.random.default_rng(0).random((4, 3, *size))
    draws = others(find("amplitude-mix").sample(4, *size, 1, ratio=ratio))
    sides = [int(side * np.sqrt(ratio)) for side in size]
    starts = [side // 2 - inner // 2 for side, inner in zip(size, sides, strict=True)]
    box = tuple(slice(start, start + inner) for start, inner in zip(starts, sides, strict=True))
    got = find("amplitude-mix").define(images, draws)
    # A box of even sides has bins without their mirror images.
    form = find("amplitude-mix").torch_form(torch.from_numpy(images), draws).numpy()
    np.testing.assert_allclose(form, got, atol=tolerances.AUGMENTATION_FLOAT64)
    for n in range(4):
        for c in range(3):
            own, given = images[n, c], images[draws.partner[n], c]
            expected = by_shifted_spectra(own, given, box, draws.share[n])
            np.testing.assert_allclose(got[n, c], expected, atol=tolerances.AUGMENTATION_FLOAT64)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fda_is_the_published_formula(size, beta):
    images = np.random.default_rng(0).random((4, 3, *size))
    draws = others(find("fda").sample(4, *size, 1, beta=(beta, beta)))
    reach = int(np.floor(min(size) * beta))
    assert (draws.reach == reach).all()
    box = tuple(slice(side // 2 - reach, side // 2 + reach + 1) for side in size)
    got = find("fda").define(images, draws)
    form = find("fda").torch_form(torch.from_numpy(images), draws).numpy()
    np.testing.assert_allclose(form, got, atol=tolerances.AUGMENTATION_FLOAT64)
    for n in range(4):
        for c in range(3):
            expected = by_shifted_spectra(images[n, c], images[draws.partner[n], c], box, 1.0)
            np.testing.assert_allclose(got[n, c], expected, atol=tolerances.AUGMENTATION_FLOAT64)


def test_fda_of_small_images_gives_the_mean_color(crops):
    images = crops(5, 32, 32).transpose(0, 3, 1, 2) / 255.0
    draws = find("fda").sample(5, 32, 32, 0)
    got = apply("fda", images, draws)
    np.testing.assert_allclose(got.mean((2, 3)), images[draws.partner].mean((2, 3)))
    np.testing.assert_allclose(got - got.mean((2, 3), keepdims=True), images - images.mean((2, 3), keepdims=True))


def test_a_share_of_nothing_and_of_everything(crops):
    images = crops(4, 16, 16).transpose(0, 3, 1, 2) / 255.0
    partner = np.array([1, 0, 3, 2])
    nothing = AmplitudeMixDraws(16, 16, 3, partner, np.zeros(4), 1.0)
    np.testing.assert_allclose(apply("amplitude-mix", images, nothing), images, atol=tolerances.AUGMENTATION_FLOAT64)
    everything = apply("amplitude-mix", images, AmplitudeMixDraws(16, 16, 3, partner, np.ones(4), 1.0))
    wide = apply("fda", images, FdaDraws(16, 16, 3, partner, np.full(4, 8)))
    np.testing.assert_allclose(everything, wide, atol=tolerances.AUGMENTATION_FLOAT64)


def test_levels_that_stay_are_not_truncated_below_themselves(crops):
    images = crops(16, 15, 15)
    same = AmplitudeMixDraws(15, 15, 3, np.arange(16), np.linspace(0, 1, 16), 1.0)
    for backend in ("torch", "reference"):
        np.testing.assert_array_equal(apply("amplitude-mix", images, same, backend=backend), images)


def test_amplitude_mix_truncates_and_clips_levels(crops):
    images = crops(6, 12, 12)
    draws = find("amplitude-mix").sample(6, 12, 12, 2)
    real = find("amplitude-mix").define(images.transpose(0, 3, 1, 2).astype(np.float64), draws).transpose(0, 2, 3, 1)
    got = apply("amplitude-mix", images, draws, backend="reference")
    assert (real < 0).any() or (real > 255).any()
    far = np.abs(real - np.rint(real)) > 2e-3  # of a border of truncation
    np.testing.assert_array_equal(got[far], np.clip(real, 0, 255).astype(np.uint8)[far])
    rounded = apply("amplitude-mix", images, draws, overflow="clamp", backend="reference")
    np.testing.assert_array_equal(rounded[far], np.clip(np.rint(real), 0, 255)[far])


def test_shares_are_uniform_and_partners_permuted():
    draws = find("amplitude-mix").sample(4000, 8, 8, 0)
    assert sorted(draws.partner) == list(range(4000))
    counts, _ = np.histogram(draws.share, bins=10, range=(0, 1))
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400)
    half = find("amplitude-mix").sample(4000, 8, 8, 0, alpha=0.5).share
    assert half.max() <= 0.5
    assert abs(half.mean() - 0.25) < 0.01
    reach = find("fda").sample(4000, 200, 300, 0, beta=(0.01, 0.09)).reach
    assert set(reach) == set(range(2, 18))
