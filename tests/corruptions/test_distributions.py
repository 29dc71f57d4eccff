"""Draws that are not the reference's: over many of them, noise has its distribution, and each draw the reference's."""

import numpy as np
import pytest
from scipy import stats

import apr_dali
from apr_dali import CorruptionDraws
from apr_dali.corruptions import NAMES
from apr_dali.corruptions.parameters import SEVERITIES, TABLES

BACKENDS = ["numpy", "auto"]
NOISES = ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"]
LEVELS = np.arange(256)
DRAWN = [name for name in NAMES if CorruptionDraws.sample(name, 3, 1, 32, 32, 0)[0] and name != "shot_noise"]
"""The draws of shot_noise are uniform numbers, and the reference's those of a generator."""


def chances(name: str, severity: int, level: int) -> np.ndarray:
    """The chance of each level, float64 (256,), that one level has under noise, truncated as it is saved."""
    strength, unit = TABLES["imagenet"][name][severity - 1], level / 255
    found = np.zeros(256)
    if name == "shot_noise":
        photons = np.arange(4 * int(strength) + 40)
        shown = (np.clip(photons / strength, 0, 1) * 255).astype(int)
        np.add.at(found, shown, stats.poisson.pmf(photons, unit * strength))
        return found
    if name == "impulse_noise":
        found[level] = 1 - strength
        found[[0, 255]] += strength / 2
        return found
    deviation = 255 * strength * (unit if name == "speckle_noise" else 1)
    below = stats.norm.cdf(LEVELS[1:], level, deviation)  # all that is less than 255 stays under it
    return np.diff(np.concatenate([[0], below, [1]]))


def levels_of(name: str, severity: int, level: int, backend: str) -> np.ndarray:
    """What becomes of one level in the pixels of many images."""
    images = np.full((8, 64, 64, 3), level, np.uint8)
    draws = CorruptionDraws.sample(name, severity, len(images), 64, 64, seed=2)
    return apr_dali.corrupt(images, name, severity, draws, backend=backend).reshape(-1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", NOISES)
def test_noise_has_its_mean_variance_and_histogram(name, severity, backend):
    for level in (30, 110, 220):
        expected = chances(name, severity, level)
        assert abs(expected.sum() - 1) < 1e-9
        got = levels_of(name, severity, level, backend)
        mean = expected @ LEVELS
        second, fourth = (expected @ (LEVELS - mean) ** power for power in (2, 4))
        assert abs(got.mean() - mean) < 3 * np.sqrt(second / got.size)
        # About the true mean: the standard error of its square is that of the fourth moment.
        variance = ((got - mean) ** 2).mean()
        assert abs(variance - second) < 3 * np.sqrt((fourth - second**2) / got.size)
        # Kolmogorov and Smirnov's distance; of whole numbers it is smaller than of others.
        shares = np.bincount(got, minlength=256) / got.size
        distance = np.abs(shares.cumsum() - expected.cumsum()).max()
        assert stats.kstwobign.sf(distance * np.sqrt(got.size)) > 1e-3


@pytest.mark.parametrize("name", DRAWN)
def test_each_draw_has_the_references_distribution(name):
    """Of the same place in many images where it is one number, and of many places where it is an array."""
    count, side = 300, 32
    random = np.random.default_rng(1) if name == "impulse_noise" else np.random.RandomState(1)
    reference = CorruptionDraws.join(
        [CorruptionDraws.from_reference(name, 3, side, side, random) for _ in range(count)]
    )
    sampled = CorruptionDraws.sample(name, 3, count, side, side, seed=3)
    assert sampled[0].keys() == reference[0].keys()
    for field in sampled[0]:
        ours, theirs = (np.stack([each[field] for each in draws]).astype(float) for draws in (sampled, reference))
        assert ours.shape == theirs.shape
        many = [values.reshape(-1)[:: max(1, values.size // 100_000)] for values in (ours, theirs)]
        assert stats.ks_2samp(*many).pvalue > 1e-3, field
        spread = np.sqrt(many[0].var() / many[0].size + many[1].var() / many[1].size)
        assert abs(many[0].mean() - many[1].mean()) <= 3 * spread, field


def test_images_and_severities_have_noise_of_their_own():
    """No two of many images are alike in any place more often than chance has it."""
    images = np.full((6, 64, 64, 3), 128, np.uint8)
    noises = [
        apr_dali.corrupt(
            images, "gaussian_noise", severity, CorruptionDraws.sample("gaussian_noise", severity, 6, 64, 64, 1)
        )
        for severity in (1, 2)
    ]
    together = np.corrcoef(np.concatenate(noises).reshape(12, -1))
    assert np.abs(together[np.triu_indices(12, 1)]).max() < 4 / np.sqrt(64 * 64 * 3)
