"""The mathematics of Amplitude-Phase Recombination, in NumPy float64: the definition of truth.

Every fast backend is tested against this module. It follows the paper (Chen et al., "Amplitude-Phase
Recombination: Rethinking Robustness of Convolutional Neural Networks in Frequency Domain", ICCV 2021,
section 4) word for word: full complex transforms, modulus, angle, exponential. Nothing here is fast.

Images are real arrays of shape (..., C, H, W). `axes` says what is transformed together:

- ``"chw"``: channels, rows and columns, as the published code does it;
- ``"hw"``: rows and columns, each channel by itself. The paper writes the transform of a gray image down (section 3.2)
  and does not say what becomes of channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali.errors import check_choice

AXES = ("chw", "hw")
OVERFLOWS = ("wrap", "clamp")
TRUNCATION_SLACK = 2.0**-10
"""Gray levels that truncation of floating results forgives: a level that came back as 6.9999 by rounding is 7."""


def spectrum(images: ArrayLike, axes: str = "chw") -> NDArray[np.complex128]:
    """The full complex DFT of real images (..., C, H, W): complex128, of the same shape.

    The transform over three channels is written out, with t = g + b, as (r + t, r - t/2 ± i·√3/2·(b - g)):
    on a gray image (r = g = b) its second and third component are then exactly 0, as they are in the real
    numbers, and not rounding errors whose phase means nothing.
    """
    check_choice("axes", axes, AXES)
    x = np.asarray(images, dtype=np.float64)
    if x.ndim < 3:
        raise ValueError(f"images must have the shape (..., C, H, W), got {x.shape}")
    planes = np.fft.fft2(x)
    if axes == "hw":
        return planes
    if x.shape[-3] != 3:
        return np.fft.fft(planes, axis=-3)
    r, g, b = (planes[..., c, :, :] for c in range(3))
    t = g + b
    base, turn = r - t / 2, 1j * (np.sqrt(3) / 2) * (b - g)
    return np.stack([r + t, base + turn, base - turn], axis=-3)


def amplitude(images: ArrayLike, axes: str = "chw") -> NDArray[np.float64]:
    """The amplitude spectrum |F(x)| of real images (..., C, H, W), zero frequency first: float64 like them, >= 0."""
    return np.abs(spectrum(images, axes))


def phase(images: ArrayLike, axes: str = "chw") -> NDArray[np.float64]:
    """The phase spectrum ∠F(x) of real images (..., C, H, W): float64 like them, -π..π in radians; 0 where F(x) = 0."""
    full = spectrum(images, axes)
    # angle(-0.0) is π: where nothing is, the phase is 0 whatever the sign of that nothing.
    return np.where(full == 0, 0.0, np.angle(full))


def compose(amplitudes: ArrayLike, phases: ArrayLike, axes: str = "chw") -> NDArray[np.float64]:
    """The real image whose spectrum is amplitudes·exp(i·phases), float (..., C, H, W): the inverse of both."""
    check_choice("axes", axes, AXES)
    full = np.asarray(amplitudes) * np.exp(1j * np.asarray(phases))
    over = (-3, -2, -1) if axes == "chw" else (-2, -1)
    return np.fft.ifftn(full, axes=over).real


def recombine(phase_of: ArrayLike, amplitude_of: ArrayLike, axes: str = "chw") -> NDArray[np.float64]:
    """iDFT(|F(amplitude_of)|·exp(i·∠F(phase_of))), the paper's Eq. 5, of real images (..., C, H, W): float64 of that
    shape, not clipped."""
    first, second = np.shape(phase_of), np.shape(amplitude_of)
    if first != second:
        raise ValueError(f"phase_of and amplitude_of must have one shape, got {first} and {second}")
    return compose(amplitude(amplitude_of, axes), phase(phase_of, axes), axes)


def to_planes(images: NDArray[Any]) -> NDArray[np.float64]:
    """uint8 (N, H, W, C) or float (N, C, H, W) images as float64 (N, C, H, W)."""
    if images.dtype == np.uint8:
        images = np.moveaxis(images, -1, -3)
    return images.astype(np.float64)


def pair(
    images: NDArray[Any],
    partner: NDArray[np.integer],
    mix: bool,
    in_scale: ArrayLike = 1.0,
    in_bias: ArrayLike = 0.0,
    out_scale: ArrayLike = 1.0,
    out_bias: ArrayLike = 0.0,
    axes: str = "chw",
) -> NDArray[np.float64]:
    """APR-P of a batch, uint8 (N, H, W, C) or float (N, C, H, W), as float64 (N, C, H, W); see `apr_dali.pair`."""

    def per_channel(value: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(value, dtype=np.float64).reshape(-1, 1, 1)

    x = to_planes(images) * per_channel(in_scale) + per_channel(in_bias)
    if mix and len(x):
        x = recombine(x, x[partner], axes)
    return x * per_channel(out_scale) + per_channel(out_bias)


def to_levels(values: NDArray[np.floating], overflow: str) -> NDArray[np.uint8]:
    """Real gray values of any shape, say (..., C, H, W), as uint8.

    ``"wrap"`` is what the published code does: truncate towards zero, then modulo 256, so that 256.3 becomes 0
    and -1.2 becomes 255. ``"clamp"`` rounds to the nearest (ties to even) and clips to 0..255.
    """
    check_choice("overflow", overflow, OVERFLOWS)
    if overflow == "wrap":
        return (np.trunc(values).astype(np.int64) & 255).astype(np.uint8)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
