"""RandConv: against SciPy's correlation; the draws."""

import numpy as np
import pytest
from scipy import signal

from apr_dali.augmentations import apply, find

RANDCONV = find("randconv")


@pytest.mark.parametrize("settings", [{}, {"mixing": True}, {"mean": (0.4, 0.5, 0.6), "std": 0.2}], ids=str)
@pytest.mark.parametrize("side", [1, 3, 5, 7])
def test_the_definition_is_scipys_correlation(side, settings):
    images = np.random.default_rng(0).random((2, 3, 9, 11))
    draws = RANDCONV.sample(2, 9, 11, 3, p=1.0, sizes=(side,), **{"mean": 0.0, "std": 1.0, **settings})
    mean, std = (np.broadcast_to(settings.get(key, other), 3) for key, other in (("mean", 0.0), ("std", 1.0)))
    x = (images - mean[:, None, None]) / std[:, None, None]
    for n in range(2):
        for out in range(3):
            y = sum(signal.correlate2d(x[n, c], draws.kernel[out, c], mode="same") for c in range(3))
            expected = ((1 - draws.share) * x[n, out] + draws.share * y) * std[out] + mean[out]
            np.testing.assert_allclose(RANDCONV.define(images, draws)[n, out], expected, atol=1e-12)
    assert (draws.share < 1) == ("mixing" in settings)


def test_draws_have_their_published_distributions():
    each = [RANDCONV.sample(2, 8, 8, seed) for seed in range(2000)]
    kernels = [draws.kernel for draws in each if draws.kernel is not None]
    assert abs(len(kernels) / 2000 - 0.5) < 0.05
    for side in (1, 3, 5, 7):
        of_side = np.stack([kernel for kernel in kernels if kernel.shape[-1] == side])
        assert abs(len(of_side) / len(kernels) - 0.25) < 0.06
        # Kaiming's: 1 / fan-in, k²·3.
        assert abs(of_side.var() * side * side * 3 - 1) < 0.1
        assert abs(of_side.mean()) * side < 0.05
    shares = [RANDCONV.sample(2, 8, 8, seed, mixing=True).share for seed in range(500)]
    assert abs(np.mean(shares) - 0.5) < 0.05


def test_a_batch_that_its_coin_leaves_is_the_same(crops):
    images = crops(3, 8, 8)
    draws = next(d for d in (RANDCONV.sample(3, 8, 8, seed) for seed in range(20)) if d.kernel is None)
    for backend in ("torch", "reference"):
        np.testing.assert_array_equal(apply("randconv", images, draws, backend=backend), images)


def test_the_border_is_the_mean_color():
    """Around a flat image of the mean color nothing is seen of a border."""
    images = np.full((1, 3, 6, 6), 0.5)
    draws = RANDCONV.sample(1, 6, 6, 0, p=1.0, sizes=(7,))
    np.testing.assert_allclose(RANDCONV.define(images, draws), images, atol=1e-12)
