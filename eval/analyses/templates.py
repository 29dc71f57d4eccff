"""A frequency of an image as four template contrasts: the paper's section 3.2, Eq. 3 and 4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NAMES = ("R+", "R−", "I+", "I−")


def templates(height: int, width: int, ky: int, kx: int) -> NDArray[np.float64]:
    """The four templates of the frequency (k_y, k_x) in cycles per image: (4, H, W) in 0..1, in the order of NAMES.

    F(k) = Σ x·e^{−iθ}, θ = 2π(k_y·y/H + k_x·x/W): the positive and the negative part of cos θ make the real part, those
    of −sin θ the imaginary part. Each template is 0 where its partner is not. The paper's θ is −θ here, its images are
    square, and it counts pixels from 1 where the DFT of every library counts from 0.
    """
    y, x = np.arange(height)[:, None], np.arange(width)
    # Whole turns off first: the sine of a multiple of π is then as near to 0 as it can be.
    turns = (ky * y % height) / height + (kx * x % width) / width
    waves = np.stack([np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)])
    return np.stack([np.maximum(waves, 0), np.maximum(-waves, 0)], axis=1).reshape(4, height, width)


@dataclass(frozen=True)
class Contrasts:
    """What the templates of a frequency find in an image: sums over its pixels, of its unit, never negative for x ≥ 0.

    real, imaginary, amplitude and phase (radians, −π..π) of the DFT follow from them.
    """

    real_plus: float
    real_minus: float
    imaginary_plus: float
    imaginary_minus: float

    @property
    def real(self) -> float:
        return self.real_plus - self.real_minus

    @property
    def imaginary(self) -> float:
        return self.imaginary_plus - self.imaginary_minus

    @property
    def amplitude(self) -> float:
        return float(np.hypot(self.real, self.imaginary))

    @property
    def phase(self) -> float:
        """atan2(I⁺ − I⁻, R⁺ − R⁻): which template wins by how much, whatever the contrast of the image.

        Eq. 4 has the arctan of the quotient, which cannot tell a phase from the opposite one.
        """
        return float(np.arctan2(self.imaginary, self.real))


def contrasts(image: NDArray[np.floating], ky: int, kx: int) -> Contrasts:
    """The four contrasts of a gray image (H, W) at the frequency (k_y, k_x) in cycles per image."""
    found = templates(image.shape[0], image.shape[1], ky, kx)
    return Contrasts(*(float(value) for value in (found * image).sum((1, 2))))
