"""HybridAugment and ++: against torchvision's blur, Pillow's operations and full transforms."""

import itertools

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.singles import by_pillow, levels_apart
from torchvision.transforms.v2 import functional as v2

import apr_dali
from apr_dali.augmentations import apply, find
from apr_dali.augmentations.shared import blur
from apr_dali.draws import OPERATIONS


def blurred(images: np.ndarray, kernel: int, sigma: float) -> np.ndarray:
    return v2.gaussian_blur(torch.from_numpy(images), [kernel] * 2, [sigma] * 2).numpy()


@pytest.mark.parametrize(("kernel", "sigma"), [(1, 1.0), (3, 0.5), (3, 1.0), (5, 2.0), (9, 1.5)])
@pytest.mark.parametrize("size", [(8, 8), (9, 14), (5, 6)], ids=str)
def test_the_blur_is_torchvisions(size, kernel, sigma):
    images = np.random.default_rng(0).random((2, 3, *size))
    expected = blurred(images, kernel, sigma)
    np.testing.assert_allclose(blur(images, kernel, sigma), expected, atol=1e-14)
    np.testing.assert_array_equal(blur(torch.from_numpy(images), kernel, sigma).numpy(), blur(images, kernel, sigma))


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2), (3, 1)], ids=str)
def test_a_border_wider_than_the_image_is_mirrored_again(size):
    images = np.random.default_rng(0).random((1, 1, *size))
    got = blur(images, 9, 3.0)
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)), mode="reflect")
    weights = np.exp(-0.5 * (np.arange(-4, 5) / 3.0) ** 2)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    expected = [[(padded[0, 0, y : y + 9, x : x + 9] * weights).sum() for x in range(size[1])] for y in range(size[0])]
    np.testing.assert_allclose(got[0, 0], expected, atol=1e-14)


def by_full_transform(phase_of: np.ndarray, amplitude_of: np.ndarray) -> np.ndarray:
    first, second = np.fft.fftn(phase_of, axes=(1, 2, 3)), np.fft.fftn(amplitude_of, axes=(1, 2, 3))
    return np.real(np.fft.ifftn(np.abs(second) * np.exp(1j * np.angle(first)), axes=(1, 2, 3)))


@pytest.mark.parametrize("dataset", ["cifar10", "imagenet"])
@pytest.mark.parametrize("name", ["hybrid-p", "hybrid++-p"])
def test_pairs_are_the_published_formula(name, dataset):
    images = np.random.default_rng(0).normal(size=(6, 3, 10, 13))
    sigma = 1.0 if (name, dataset) == ("hybrid++-p", "imagenet") else 0.5
    seen = set()
    for seed in range(12):
        draws = find(name).sample(6, 10, 13, seed, dataset=dataset)
        low = blurred(images, 3, sigma)
        expected = images
        if draws.mix:
            swapped = draws.low is not None and draws.low.mix
            first = by_full_transform(low, low[draws.low.partner]) if swapped else low
            expected = first + (images - low)[draws.partner]
            seen.add(swapped)
        else:
            seen.add(None)
        np.testing.assert_allclose(find(name).define(images, draws), expected, atol=tolerances.AUGMENTATION_FLOAT64)
    assert seen == ({None, False} if name == "hybrid-p" else {None, False, True})


def as_published(image: np.ndarray, draws, n: int) -> np.ndarray:
    """HybridAugment-S of one image, uint8 (H, W, 3), in floating point as the released code has it."""
    views = draws.views
    first = by_pillow(image, OPERATIONS[views.operation[n, 0]], views.parameters[n, 0])
    if not views.mix[n]:
        return first
    second = by_pillow(first, OPERATIONS[views.operation[n, 1]], views.parameters[n, 1])
    x = np.stack([first, second]).transpose(0, 3, 1, 2) / 255.0
    low = blurred(x, 3, 0.5)
    a, b = (1, 0) if views.amplitude_of_second[n] else (0, 1)
    return np.trunc((low[a] + x[b] - low[b]).transpose(1, 2, 0) * 255 + 1e-6).astype(int) % 256


def test_singles_are_the_published_formula(crops):
    images = crops(40, 16, 20)
    draws = find("hybrid-s").sample(40, 16, 20, 3)
    got = apply("hybrid-s", images, draws, backend="reference")
    expected = np.stack([as_published(image, draws, n) for n, image in enumerate(images)])
    apart = levels_apart(got, expected, "wrap")
    assert apart.max() <= tolerances.LEVELS
    assert (apart > 0).mean() < 1e-3
    assert (got[draws.views.mix] != images[draws.views.mix]).any()


def test_plus_puts_apr_s_on_both_low_parts(crops):
    images = crops(40, 16, 20)
    plain = find("hybrid-s").sample(40, 16, 20, 3)
    plus = find("hybrid++-s").sample(40, 16, 20, 3)
    np.testing.assert_array_equal(plus.views.parameters, plain.views.parameters)
    got = find("hybrid++-s").define(images, plus)
    mixed = np.flatnonzero(plus.views.mix)
    for n in mixed:
        first = by_pillow(images[n], OPERATIONS[plus.views.operation[n, 0]], plus.views.parameters[n, 0])
        second = by_pillow(first, OPERATIONS[plus.views.operation[n, 1]], plus.views.parameters[n, 1])
        views = np.stack([first, second]).transpose(0, 3, 1, 2).astype(np.float64)
        low = np.rint(blurred(views, 3, 0.5) * 2**16) / 2**16
        a, b = (1, 0) if plus.views.amplitude_of_second[n] else (0, 1)
        one = type(plus.views)(*(getattr(plus.low[a], f)[n : n + 1] for f in plus.views.__dataclass_fields__))
        levels = low[a].astype(np.uint8).transpose(1, 2, 0)[None]
        augmented = apr_dali.single(levels, one, backend="reference")[0]
        np.testing.assert_allclose(got[n], augmented.transpose(2, 0, 1) + views[b] - low[b], atol=1e-9)
    assert len(mixed) > 10


def test_flat_images_stay_as_they_are():
    """A blur of rounded weights may miss a level by 1e-14, which truncation would make one level."""
    levels = np.arange(256, dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (256, 6, 7, 3)).copy()
    draws = find("hybrid-s").sample(256, 6, 7, 0)
    draws.views.operation[:] = OPERATIONS.index("autocontrast")
    for backend in ("torch", "reference"):
        np.testing.assert_array_equal(apply("hybrid-s", images, draws, backend=backend), images)


def test_coins_have_their_published_shares():
    plus = [find("hybrid++-p").sample(4, 8, 8, seed, dataset="imagenet") for seed in range(2000)]
    assert abs(np.mean([draws.mix for draws in plus]) - 0.6) < 0.04
    assert abs(np.mean([draws.low.mix for draws in plus]) - 0.5) < 0.04
    agree = np.mean([draws.mix and draws.low.mix for draws in plus])
    assert abs(agree - 0.3) < 0.04  # each has a coin of its own
    assert abs(np.mean([find("hybrid++-p").sample(4, 8, 8, seed).low.mix for seed in range(2000)]) - 0.6) < 0.04
    views = find("hybrid-s").sample(4000, 8, 8, 0).views
    assert abs(views.mix.mean() - 0.5) < 0.03
    assert abs(views.amplitude_of_second.mean() - 0.5) < 0.03


def test_coins_may_be_given_and_change_no_other_draw():
    augmentation = find("hybrid++-p")
    for coin in itertools.product((0.1, 0.9), repeat=2):
        for seed in range(5):
            drawn, given = (augmentation.sample(6, 8, 8, seed, **more) for more in ({}, {"coin": coin}))
            assert (given.mix, given.low.mix) == (coin[0] < 0.6, coin[1] < 0.6)
            np.testing.assert_array_equal(given.partner, drawn.partner)
            np.testing.assert_array_equal(given.low.partner, drawn.low.partner)


def test_the_low_parts_operations_are_drawn_anew():
    draws = find("hybrid++-s").sample(500, 8, 8, 0)
    kinds = [each.operation[:, 0] for each in (draws.views, *draws.low)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs((kinds[a] == kinds[b]).mean() - 1 / 9) < 0.06
