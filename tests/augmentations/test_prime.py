"""PRIME: its primitives against SciPy and a table of levels, its chains, its draws."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from apr_dali.augmentations import find
from apr_dali.augmentations.prime import displacements
from apr_dali.augmentations.prime_draws import PRIMITIVES, PrimeDraws, temperatures

PRIME = find("prime")


def alone(primitive: str, draws: PrimeDraws) -> PrimeDraws:
    """The same draws with one primitive in one step of one chain, and nothing of the image itself."""
    weight = np.zeros_like(draws.weight)
    weight[:, 1] = 1
    return replace(
        draws,
        mixture=np.ones_like(draws.mixture),
        weight=weight,
        depth=np.ones_like(draws.depth),
        operation=np.full_like(draws.operation, PRIMITIVES.index(primitive)),
    )


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (20, 13), (1, 5)], ids=str)
def test_the_diffeomorphism_is_scipys_map(size):
    images = np.random.default_rng(0).random((3, 3, *size))
    draws = alone("diffeomorphism", PRIME.sample(3, *size, 2))
    height, width = size
    modes = draws.modes[0]
    rows, columns = np.linspace(0, 1, height), np.linspace(0, 1, width)
    fields = np.zeros((2, height, width))
    for i in range(modes.shape[1]):
        for j in range(modes.shape[1]):
            wave = np.outer(np.sin(math.pi * (j + 1) * rows), np.sin(math.pi * (i + 1) * columns))
            fields += modes[:, i, j, None, None] * wave
    y, x = np.mgrid[:height, :width]
    source = np.stack([np.clip(y - height * fields[1], 0, height - 1), np.clip(x - width * fields[0], 0, width - 1)])
    got = PRIME.define(images, draws)
    for n in range(3):
        for c in range(3):
            expected = ndimage.map_coordinates(images[n, c], source, order=1, mode="nearest")
            np.testing.assert_allclose(got[n, c], expected, atol=1e-9)


def test_the_color_transform_is_a_table_of_256(crops):
    images = crops(4, 16, 16)
    draws = alone("color", PRIME.sample(4, 16, 16, 5))
    got = PRIME.define(images.transpose(0, 3, 1, 2) / 255.0, draws)
    levels = np.arange(256) / 255
    for n in range(4):
        for c in range(3):
            table = levels.copy()
            for k, a in enumerate(draws.color[0][n, 1, c], start=int(draws.frequency[0])):
                table += a * np.sin(math.pi * k * levels)
            np.testing.assert_allclose(got[n, c], np.clip(table, 0, 1)[images[n, ..., c]], atol=1e-12)


def test_the_filter_is_scipys_correlation():
    images = np.random.default_rng(0).random((4, 3, 9, 12))
    draws = alone("filter", PRIME.sample(4, 9, 12, 1))
    got = PRIME.define(images, draws)
    for n in range(4):
        for c in range(3):
            expected = ndimage.correlate(images[n, c], draws.kernel[0, n, 1], mode="constant")
            np.testing.assert_allclose(got[n, c], np.clip(expected, 0, 1), atol=1e-12)


def test_chains_are_as_deep_as_drawn_and_mixed_by_their_weights():
    images = np.random.default_rng(0).random((6, 3, 8, 8))
    draws = PRIME.sample(6, 8, 8, 4)
    expected = (1 - draws.mixture)[:, None, None, None] * images
    for chain in range(3):
        x = images
        for step in range(3):
            weight = np.zeros((6, 3))
            weight[:, chain] = 1
            single = replace(
                draws,
                mixture=np.ones(6),
                weight=weight,
                depth=np.ones((6, 3), int),
                operation=draws.operation[step : step + 1],
                modes=draws.modes[step : step + 1],
                color=draws.color[step : step + 1],
                frequency=draws.frequency[step : step + 1],
                kernel=draws.kernel[step : step + 1],
            )
            deeper = (draws.depth[:, chain] > step)[:, None, None, None]
            x = np.where(deeper, PRIME.define(x, single), x)
        expected = expected + (draws.mixture * draws.weight[:, chain])[:, None, None, None] * x
    np.testing.assert_allclose(PRIME.define(images, draws), expected, atol=1e-10)


def test_no_mixture_is_no_change():
    images = np.random.default_rng(0).random((2, 3, 8, 8))
    draws = replace(PRIME.sample(2, 8, 8, 0), mixture=np.zeros(2))
    np.testing.assert_array_equal(PRIME.define(images, draws), images)


def test_draws_have_their_published_distributions():
    draws = PRIME.sample(3000, 8, 8, 0)
    np.testing.assert_allclose(draws.weight.sum(1), 1)
    # A flat Dirichlet of three: each weight has mean 1/3 and variance 1/18.
    assert np.abs(draws.weight.mean(0) - 1 / 3).max() < 0.02
    assert np.abs(draws.weight.var(0) - 1 / 18).max() < 0.005
    assert abs(draws.mixture.mean() - 0.5) < 0.02
    assert abs(draws.mixture.var() - 1 / 12) < 0.01
    for values, of in ((draws.depth, (1, 2, 3)), (draws.operation, (0, 1, 2))):
        found, counts = np.unique(values, return_counts=True)
        assert tuple(found) == of
        assert np.abs(counts / values.size - 1 / 3).max() < 0.02


def test_diffeomorphisms_are_between_half_a_pixel_and_a_fold():
    cuts, moved = [], []
    for seed in range(300):
        modes = PRIME.sample(1, 32, 32, seed, steps=1).modes[0]
        cuts.append(modes.shape[1])
        i = np.arange(1, len(modes[0]) + 1)
        norm = np.hypot(i[:, None], i)
        inside = norm < cuts[-1] + 0.5
        assert (modes[:, ~inside] == 0).all()
        assert (modes[:, inside] != 0).all()
        low, high = temperatures(32, cuts[-1])
        # The modes' variance is T / |k|²: estimated from all of them.
        temperature = (modes[:, inside] ** 2 * norm[inside] ** 2).mean()
        spread = 5 * math.sqrt(2 / modes[:, inside].size) + 1
        assert low / (3 * spread) < temperature < max(low, high) * 3 * spread
        moved.append(np.sqrt((displacements(modes, 32, 32)[:, 12:20, 12:20] ** 2).mean()))
    assert min(cuts) == 2
    assert 90 < max(cuts) <= 100
    assert np.median(moved) > 0.3
    # 1 / (π n² ln c) and 4 / (π³ c² ln c), by hand.
    low, high = temperatures(32, 2)
    np.testing.assert_allclose((low, high), (4.4845e-4, 4.6528e-2), rtol=1e-3)


@pytest.mark.parametrize(("dataset", "cut", "variance"), [("cifar10", 100, 0.01), ("imagenet", 500, 0.05)])
def test_colors_and_filters_have_their_published_sizes(dataset, cut, variance):
    each = [PRIME.sample(8, 8, 8, seed, steps=1, dataset=dataset) for seed in range(200)]
    last = [int(draws.frequency[0]) + draws.color[0].shape[-1] - 1 for draws in each]
    assert cut * 0.95 < max(last) <= cut
    counts = [draws.color[0].shape[-1] for draws in each]
    if dataset == "imagenet":
        assert max(counts) == 20
        assert max(draws.frequency[0] for draws in each) > 100
    else:
        assert all(draws.frequency[0] == 1 for draws in each)
        assert max(counts) > 90
    mean = np.mean([(draws.color[0] ** 2).mean() for draws in each])
    assert abs(mean - variance / 2) < 0.1 * variance
    taps = np.stack([draws.kernel[0] for draws in each])
    assert abs(taps[..., 2, 2].mean() - 1) < 0.1
    assert abs(taps[..., 1, 1].mean()) < 0.1
    # σ uniform in 0..4: a variance of 16 / 3 on average.
    assert abs((taps[..., :2, :] ** 2).mean() - 16 / 3) < 1
