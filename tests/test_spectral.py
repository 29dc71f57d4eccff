"""The float64 reference against sums written out and against the properties of the transform."""

import numpy as np
import pytest
from helpers import tolerances

from apr_dali import spectral


def dft(image: np.ndarray) -> np.ndarray:
    """The three-dimensional DFT from its definition, one matrix per axis."""
    for axis, n in enumerate(image.shape):
        k = np.arange(n)
        matrix = np.exp(-2j * np.pi * np.outer(k, k) / n)
        image = np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
    return image


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 4, 4), (2, 3, 7), (4, 1, 5)])
def test_spectrum_is_the_dft_of_the_definition(shape):
    image = np.random.default_rng(0).standard_normal(shape)
    np.testing.assert_allclose(spectral.spectrum(image), dft(image), atol=1e-12)


def test_spectrum_of_each_channel_by_itself():
    image = np.random.default_rng(0).standard_normal((3, 5, 4))
    expected = np.stack([dft(channel[None])[0] for channel in image])
    np.testing.assert_allclose(spectral.spectrum(image, "hw"), expected, atol=1e-12)


def test_recombine_is_the_published_formula(crops):
    first, second = crops(2, 33, 20).transpose(0, 3, 1, 2) / 255.0
    f, g = np.fft.fftn(first), np.fft.fftn(second)
    expected = np.fft.ifftn(np.abs(g) * np.exp(1j * np.angle(f)))
    assert np.abs(expected.imag).max() < 1e-12
    got = spectral.recombine(first, second)
    np.testing.assert_allclose(got, expected.real, atol=tolerances.RECOMBINE_FLOAT64)
    assert np.abs(got - first).max() > 0.1  # it does something


def test_an_image_recombined_with_itself_is_itself(crops):
    image = crops(1, 16, 21)[0].transpose(2, 0, 1) / 255.0
    np.testing.assert_allclose(spectral.recombine(image, image), image, atol=1e-12)


def test_amplitude_and_phase_compose_to_the_image(crops):
    image = crops(1, 12, 9)[0].transpose(2, 0, 1) / 255.0
    for axes in spectral.AXES:
        back = spectral.compose(spectral.amplitude(image, axes), spectral.phase(image, axes), axes)
        np.testing.assert_allclose(back, image, atol=1e-12)


def test_result_has_the_amplitude_of_one_and_the_phase_of_the_other(crops):
    first, second = crops(2, 15, 16, seed=3).transpose(0, 3, 1, 2) / 255.0
    mixed = spectral.recombine(first, second)
    np.testing.assert_allclose(spectral.amplitude(mixed), spectral.amplitude(second), atol=1e-9)
    large = spectral.amplitude(mixed) > 1e-3
    turn = np.exp(1j * (spectral.phase(mixed) - spectral.phase(first)))
    np.testing.assert_allclose(turn[large], 1, atol=1e-6)


def test_gray_image_has_exact_zeros_and_the_phase_there_is_zero(crops):
    gray = np.repeat(crops(1, 8, 8)[0][..., :1], 3, axis=-1).transpose(2, 0, 1) / 255.0
    full = spectral.spectrum(gray)
    assert (full[1:] == 0).all()
    assert (spectral.phase(gray)[1:] == 0).all()
    assert (full[0] != 0).any()


def test_phase_of_nothing_is_zero_whatever_its_sign():
    for nothing in (0.0, -0.0):
        assert (spectral.phase(np.full((3, 4, 4), nothing)) == 0).all()


def test_black_phase_gives_the_amplitude_itself():
    # Phase 0 everywhere: the result is the inverse transform of |F(second)|.
    second = np.random.default_rng(1).random((3, 6, 6))
    expected = np.fft.ifftn(np.abs(np.fft.fftn(second))).real
    np.testing.assert_allclose(spectral.recombine(np.zeros((3, 6, 6)), second), expected, atol=1e-12)


def test_wrap_truncates_then_takes_the_remainder():
    values = np.array([-1.2, -0.7, 0.0, 0.9, 254.6, 255.9, 256.3, -257.5])
    np.testing.assert_array_equal(spectral.to_levels(values, "wrap"), [255, 0, 0, 0, 254, 255, 0, 255])


def test_clamp_rounds_and_clips():
    values = np.array([-1.2, 0.5, 0.6, 1.5, 254.6, 256.3])
    np.testing.assert_array_equal(spectral.to_levels(values, "clamp"), [0, 0, 1, 2, 255, 255])


@pytest.mark.parametrize(("call", "message"), [
    (lambda: spectral.recombine(np.zeros((3, 4, 4)), np.zeros((3, 4, 5))), "one shape"),
    (lambda: spectral.spectrum(np.zeros((4, 4))), r"\(\.\.\., C, H, W\)"),
    (lambda: spectral.spectrum(np.zeros((3, 4, 4)), "hwc"), "chw, hw"),
    (lambda: spectral.to_levels(np.zeros(3), "modulo"), "wrap, clamp"),
])  # fmt: skip
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
