"""What several augmentations share: mixed amplitudes, mirrored bins, Gaussian blur, partners.

A bin k of a spectrum (..., H, W) has its mirror image -k, the bin at ((-ky) mod H, (-kx) mod W). Spectra of real images
are conjugate there, and what a paper does to a full spectrum is done to a half one (..., H, W // 2 + 1) rightly only if
both bins of a pair are looked at: the real part that the released codes take is the mean of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apr_dali import spectral
from apr_dali.errors import InputError, check_number, check_whole
from apr_dali.kernels.torch_copies import put
from apr_dali.kernels.torch_spectrum import give_amplitude, half_spectrum, inverse


def mirrored(full: NDArray[Any], axes: tuple[int, ...] = (-2, -1)) -> NDArray[Any]:
    """What a full spectrum (..., H, W) of any dtype has at -k, at each k; `axes` are those transformed."""
    return np.roll(np.flip(full, axes), 1, axes)


def symmetric_half(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The half (..., H, W // 2 + 1) of a real weight (..., H, W) of amplitudes that gives the same real image."""
    return ((weight + mirrored(weight)) / 2)[..., : weight.shape[-1] // 2 + 1]


def mixed_amplitudes(
    images: NDArray[np.float64], given: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Images (N, C, H, W), float64, with the amplitude (1 - weight)·A(images) + weight·A(given), by channel.

    weight: float64, broadcasts to (N, C, H, W), on the full spectrum, zero frequency first.
    """
    own = spectral.amplitude(images, "hw")
    mixed = own + weight * (spectral.amplitude(given, "hw") - own)
    return spectral.compose(mixed, spectral.phase(images, "hw"), "hw")


def mix_amplitudes(images: Tensor, partner: NDArray[np.int64], weight: NDArray[np.float64]) -> Tensor:
    """`mixed_amplitudes` of floating images (N, C, H, W) and those at `partner`, int64 (N,), in torch."""
    height, width = images.shape[-2:]
    half = half_spectrum(images, "hw")
    own = half.abs()
    part = put(symmetric_half(weight), own.device, own.dtype)
    given = own[put(partner, own.device)]
    return inverse(give_amplitude(half, own, own + part * (given - own)), height, width, "hw")


def signed_frequencies(size: int) -> NDArray[np.int64]:
    """The frequencies of the bins along an axis of `size`, int64 (size,): 0, 1, ..., -2, -1."""
    return np.fft.ifftshift(np.arange(size) - size // 2)


def gaussian_window(kernel: int, sigma: float) -> NDArray[np.float64]:
    """The weights of torchvision's GaussianBlur along an axis, float64 (kernel,); they add up to 1."""
    weights = np.exp(-0.5 * ((np.arange(kernel) - (kernel - 1) / 2) / sigma) ** 2)
    return weights / weights.sum()


def check_blur(kernel: int, sigma: float) -> None:
    """Raise InputError unless a Gaussian window of `kernel` taps has a middle, and `sigma` a width."""
    check_whole("kernel", kernel, 1)
    if kernel % 2 == 0:
        raise InputError(f"kernel must be odd, got {kernel}")
    check_number("sigma", sigma, positive=True)


def blur(images: Any, kernel: int, sigma: float) -> Any:
    """Gaussian blur of floating images (..., H, W), NumPy's or torch's, mirrored at the border as by torchvision.

    The sums have one order, so that float64 gives the same numbers everywhere. A border wider than the image is
    mirrored again and again.
    """
    weights = gaussian_window(kernel, sigma)
    for axis in (-2, -1):
        images = _blur_along(images, weights, axis)
    return images


def _blur_along(images: Any, weights: NDArray[np.float64], axis: int) -> Any:
    size, reach = images.shape[axis], len(weights) // 2
    total = 0 * images
    for offset, weight in enumerate(weights, start=-reach):
        source = _reflected(np.arange(size) + offset, size)
        if isinstance(images, Tensor):
            taken: Any = images.index_select(images.ndim + axis, put(source, images.device))
        else:
            taken = np.take(images, source, axis)
        total = total + float(weight) * taken
    return total


def _reflected(positions: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The pixels 0..size - 1 that mirrors at the first and the last one put at `positions`."""
    if size == 1:
        return np.zeros_like(positions)
    folded = positions % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)
