"""An augmentation that is not in the package: the example that the documentation shows."""

import numpy as np
import pytest
import torch
from helpers.examples import example
from helpers.forms import assert_forms_agree

from apr_dali.augmentations import apply, find, registry, sample_and_apply
from apr_dali.errors import InputError
from apr_dali.transforms import Augment


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(registry, "_added", {})
    return example("own_augmentation")


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 14), (33, 20)], ids=str)
def test_both_forms_agree(own, size):
    assert_forms_agree(own.TILT, np.random.default_rng(0).random((4, 3, *size)))


def test_it_is_known_by_its_name(own, crops):
    images = crops(4, 12, 16)
    assert find("tilt") is own.TILT
    assert own.largest_difference(images) <= 1
    flat = own.TiltDraws(12, 16, 3, np.zeros(4))
    np.testing.assert_array_equal(apply("tilt", images, flat), images)
    expected = sample_and_apply("tilt", images, int(np.random.default_rng((2,)).integers(2**63)), deviation=0.5)
    planes = torch.from_numpy(images).permute(0, 3, 1, 2)
    got = Augment("tilt", seed=2, deviation=0.5)(planes)
    np.testing.assert_array_equal(got.permute(0, 2, 3, 1).numpy(), expected)
    assert (expected != images).any()


def test_it_does_what_it_says(own):
    images = np.random.default_rng(0).random((1, 1, 8, 8))
    got = own.define(images, own.TiltDraws(8, 8, 1, np.array([2.0])))
    ratio = np.abs(np.fft.fft2(got) / np.fft.fft2(images))[0, 0]
    np.testing.assert_allclose((ratio[0, 0], ratio[0, 1], ratio[2, 0], ratio[3, 4], ratio[7, 7]), (1, 1, 4, 25, 2))


def test_its_draws_are_checked_as_others_are(own):
    with pytest.raises(InputError, match="height must be at least 1"):
        own.TILT.sample(2, 0, 8)
    with pytest.raises(InputError, match=r"TiltDraws.slope must have the shape \(2,\), got \(2, 1\)"):
        own.TiltDraws(8, 8, 3, np.zeros((2, 1)))
    with pytest.raises(InputError, match="tilt takes TiltDraws, got AfaDraws"):
        apply("tilt", np.zeros((2, 8, 8, 3), np.uint8), find("afa").sample(2, 8, 8, 0))
