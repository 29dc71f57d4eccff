"""VIPAug-G: against the released code's windows and full transform, channels last."""

import numpy as np
import pytest
import torch
from helpers import tolerances
from helpers.singles import by_pillow

import apr_dali
from apr_dali.augmentations import apply, find
from apr_dali.augmentations.vipaug import VipAugDraws, vital_bins
from apr_dali.draws import OPERATIONS

VIPAUG = find("vipaug-g")


def vital_in_windows(amplitudes: np.ndarray) -> np.ndarray:
    """(H, W, 3): the first largest of each window of two by two, one after the other.

    Whole levels make bins whose amplitudes are equal but for rounding.
    """
    amplitudes = amplitudes.round(6)
    out = np.zeros(amplitudes.shape, bool)
    for c in range(3):
        for y in range(0, amplitudes.shape[0] - 1, 2):
            for x in range(0, amplitudes.shape[1] - 1, 2):
                window = [(amplitudes[y + j, x + i, c], y + j, x + i) for j in (0, 1) for i in (0, 1)]
                _, row, column = max(window, key=lambda each: each[0])
                out[row, column, c] = True
    return out


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (32, 32)], ids=str)
def test_the_definition_is_the_published_formula(size, crops):
    images = crops(24, *size)
    draws = VIPAUG.sample(24, *size, 1, vital=0.01, nonvital=0.3)
    got = VIPAUG.define(images, draws)
    noise = dict(zip(draws.noisy.tolist(), draws.noise, strict=True))
    assert len(noise) > 3
    for n in np.flatnonzero(draws.views.mix):
        first = by_pillow(images[n], OPERATIONS[draws.views.operation[n, 0]], draws.views.parameters[n, 0])
        second = by_pillow(first, OPERATIONS[draws.views.operation[n, 1]], draws.views.parameters[n, 1])
        own, giver = (first, second) if draws.views.amplitude_of_second[n] else (second, first)
        spectrum = np.fft.fftn(own)
        phases = np.angle(spectrum)
        if n in noise:
            vital = vital_in_windows(np.abs(spectrum))
            each = noise[n].transpose(1, 2, 0).astype(np.float64)
            phases = phases + np.where(vital, 0.1, np.sqrt(0.3)) * each
        expected = np.fft.ifftn(np.abs(np.fft.fftn(giver)) * np.exp(1j * phases)).real
        if np.abs(spectrum).min() > 1e-6 * np.abs(spectrum).max():  # else phases of rounding
            np.testing.assert_allclose(got[n], expected.transpose(2, 0, 1), atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (5, 7), (8, 9)], ids=str)
def test_one_bin_of_four_is_vital(size):
    amplitudes = np.random.default_rng(0).random((2, 3, *size))
    vital = vital_bins(amplitudes)
    assert vital.sum() == 2 * 3 * (size[0] // 2) * (size[1] // 2)
    height, width = size[0] // 2 * 2, size[1] // 2 * 2
    assert not vital[..., height:, :].any()
    assert not vital[..., width:].any()
    expected = vital_in_windows(amplitudes[0].transpose(1, 2, 0))
    np.testing.assert_array_equal(vital[0], expected.transpose(2, 0, 1))


def test_without_noise_it_is_apr_s(crops):
    images = crops(30, 16, 16)
    draws = VIPAUG.sample(30, 16, 16, 0, p=0.0)
    assert len(draws.noisy) == 0
    for backend in ("reference", "torch"):
        expected = apr_dali.single(images, draws.views, backend=backend)
        np.testing.assert_array_equal(apply("vipaug-g", images, draws, backend=backend), expected)


def test_the_real_part_is_kept(crops):
    """The noise is not odd: the half spectrum takes the mean of both bins of a pair, on the columns of its own too."""
    images = crops(40, 16, 18)
    draws = VIPAUG.sample(40, 16, 18, 5, vital=1.0, nonvital=1.0, p=1.0)
    full = VIPAUG.define(images, draws)
    half = VIPAUG.torch_form(torch.from_numpy(images), draws).double().numpy()
    assert np.abs(full - half).max() < tolerances.AUGMENTATION_LEVELS
    quiet = VipAugDraws(16, 18, 3, draws.views, draws.noisy, draws.noise, 0.0, 0.0)
    assert np.abs(full - VIPAUG.define(images, quiet))[draws.noisy].mean() > 5


def test_draws_have_their_published_distributions():
    draws = VIPAUG.sample(1000, 8, 8, 0)
    share = len(draws.noisy) / draws.views.mix.sum()
    assert abs(share - 0.5) < 0.08
    assert draws.views.mix[draws.noisy].all()
    assert abs(draws.noise.mean()) < 0.02
    assert abs(draws.noise.std() - 1) < 0.02
    published = {set_: VIPAUG.sample(1, 8, 8, 0, dataset=set_) for set_ in ("cifar10", "cifar100", "imagenet")}
    assert {name: (each.vital, each.nonvital) for name, each in published.items()} == {
        "cifar10": (0.001, 0.014),
        "cifar100": (0.005, 0.012),
        "imagenet": (0.001, 0.005),
    }


def test_noise_for_images_that_are_not_recombined_is_refused():
    draws = VIPAUG.sample(20, 8, 8, 0)
    alone = np.flatnonzero(~draws.views.mix)[:1]
    with pytest.raises(ValueError, match="noisy must name images that are recombined"):
        VipAugDraws(8, 8, 3, draws.views, alone, np.zeros((1, 3, 8, 8), np.float32), 0.1, 0.1)
