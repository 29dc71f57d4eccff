"""AFA: the definition pixel by pixel, and its draws."""

import math

import numpy as np
import pytest
import torch

from apr_dali.augmentations import find
from apr_dali.augmentations.afa import AfaDraws

AFA = find("afa")


@pytest.mark.parametrize("side", [8, 9, 32])
def test_the_wave_is_the_published_one(side):
    draws = AFA.sample(3, side, side, 0)
    images = np.random.default_rng(0).random((3, 3, side, side))
    got = AFA.define(images, draws)
    points = [-side / 2 + side * i / (side - 1) for i in range(side)]
    for n in range(3):
        for c in range(3):
            f, angle = draws.frequency[n, c], draws.angle[n, c]
            wave = np.array(
                [
                    [
                        math.sin(2 * math.pi * f * (x * math.cos(angle) + y * math.sin(angle)) - math.pi / 4)
                        for y in points
                    ]
                    for x in points
                ]
            )
            wave *= side / 32 * draws.strength[n, c] / math.sqrt((wave**2).sum())
            np.testing.assert_allclose(got[n, c], np.clip(images[n, c] + wave, 0, 1), atol=1e-12)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (24, 40)], ids=str)
def test_the_strength_is_the_root_mean_square_of_32_pixels(size):
    ones = np.ones((1, 3))
    draws = AfaDraws(*size, 3, frequency=ones * 0.3, angle=-ones, strength=ones * 0.8)
    wave = AFA.define(np.full((1, 3, *size), 0.5), draws) - 0.5
    assert np.abs(wave).max() < 0.5
    np.testing.assert_allclose(np.sqrt((wave**2).mean((2, 3))), 0.8 / 32)


def test_no_strength_is_no_change():
    zeros = np.zeros((1, 3))
    draws = AfaDraws(6, 6, 3, frequency=zeros + 0.5, angle=zeros, strength=zeros)
    images = np.random.default_rng(0).random((1, 3, 6, 6))
    np.testing.assert_array_equal(AFA.define(images, draws), images)


def test_a_pixel_on_a_zero_of_the_wave_gets_nothing():
    """One pixel, at u = v = -1/2: with ω = 0 the angle is -πf - π/4, 0 at f = -1/4."""
    draws = AfaDraws(1, 1, 1, frequency=np.full((1, 1), -0.25), angle=np.zeros((1, 1)), strength=np.ones((1, 1)))
    images = np.full((1, 1, 1, 1), 0.5)
    for got in (AFA.define(images, draws), AFA.torch_form(torch.from_numpy(images), draws).numpy()):
        np.testing.assert_allclose(got, images, atol=1e-6)


def test_draws_have_their_published_distributions():
    draws = AFA.sample(3000, 32, 32, 0)
    frequencies, counts = np.unique(draws.frequency, return_counts=True)
    np.testing.assert_allclose(frequencies, np.arange(1, 33) / 32)
    assert np.abs(counts - 9000 / 32).max() < 5 * math.sqrt(9000 / 32)
    angles = np.unique(draws.angle)
    assert len(angles) == 448
    np.testing.assert_allclose((angles[0], angles[-1], angles[1] - angles[0]), (-math.pi, 0, math.pi / 447))
    assert draws.strength.min() >= 0
    assert abs(draws.strength.mean() - 10) < 0.5
    assert abs(np.median(draws.strength) - 10 * math.log(2)) < 0.5
    assert abs(np.corrcoef(draws.strength[:, 0], draws.strength[:, 1])[0, 1]) < 0.08  # each channel by itself
    assert AFA.sample(100, 8, 8, 0, least=4.0).strength.min() >= 4


def test_recipes_have_the_published_weights():
    weights = {dataset: AFA.recipe(dataset).weights["jsd"] for dataset in ("cifar10", "cifar100", "imagenet")}
    assert weights == {"cifar10": 10, "cifar100": 1, "imagenet": 12}
