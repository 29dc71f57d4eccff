"""Bands of amplitude and phase, in NumPy float64: the paper's section 3.1, Eq. 1 and 2. The definition of truth.

The spectrum of an image, F = A·e^{iφ} (Eq. 1), is cut into three bands by the distance of a frequency from zero. The
image x̃ = iDFT(Ã·e^{iφ̃}) (Eq. 2) has its amplitude and its phase each full or of one band alone, the rows and columns
of Fig. 4. The paper's transfer function ẑ (1 where z = 0, else z) replaces the zeros that a filter leaves by ones, in Ã
and in φ̃, so that no phase is lost where the amplitude is filtered away. For Ã we do so. For φ̃ there are two readings:

- outside=0, ours: e^{iφ̃} is 1 there, that is φ̃ = 0. A phase of 1 radian at a frequency and at its mirror image is the
  spectrum of no real image.
- outside=1, the paper's words: φ̃ is 1 radian, and the image is the real part of what the inverse transform gives. That
  part is as if the phase were 0 and the amplitude cos 1 = 0.54 of itself outside the phase's band: no phase is hidden
  or shown that the other reading does not hide or show.

Within a band, zeros stay zeros: ẑ by its letter would also change the phase of frequency 0, which is 0 in every image.
The paper gives no radii, no range of values, and does not say what becomes of channels. Ours: each channel is
transformed by itself, and images are in 0..1, which is what an amplitude of 1 is measured against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from apr_dali.errors import InputError
from apr_dali.spectral import amplitude, compose, phase

BANDS = ("full", "low", "band", "high")
RADII = (0.125, 0.25)
"""Where the bands meet, in cycles per pixel: waves of 8 and of 4 pixels. The paper gives no radii; these are ours."""
OUTSIDE = (0, 1)


@dataclass(frozen=True)
class BandFilter:
    """Which band of the amplitude and of the phase is kept, each one of BANDS.

    radii: low holds the frequencies up to the first, band those up to the second, high the rest; in cycles per pixel,
    of the distance from zero, which is 0.5 at the ends of the axes and 0.71 in the corners.
    outside: the phase outside its band, 0 or 1 radian: our reading, or the paper's words.
    """

    amplitude: str = "full"
    phase: str = "full"
    radii: tuple[float, ...] = RADII
    outside: int = 0

    def __post_init__(self) -> None:
        for name in ("amplitude", "phase"):
            if getattr(self, name) not in BANDS:
                raise InputError(f"{name} must be one of {', '.join(BANDS)}, got {getattr(self, name)!r}")
        if len(self.radii) != 2 or not 0 <= self.radii[0] < self.radii[1] <= 0.75:
            got = ", ".join(map(str, self.radii))
            raise InputError(f"radii must be two rising numbers in 0..0.75 cycles per pixel, got {got}")
        if self.outside not in OUTSIDE:
            raise InputError(f"outside must be the phase 0 or 1, got {self.outside!r}")
        if self.outside and self.phase == "full":
            raise InputError("outside=1 changes nothing with phase=full: no phase is outside")

    @classmethod
    def parse(cls, text: str, radii: tuple[float, ...] = RADII) -> BandFilter:
        """From `amplitude=BAND,phase=BAND,outside=0|1`, in any order, or some of it. InputError otherwise."""
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, band = part.partition("=")
            if not equals or name not in ("amplitude", "phase", "outside") or name in given:
                raise InputError(f"a spectrum is given as amplitude=low,phase=full, each name once, got {text!r}")
            given[name] = band
        if "outside" in given:
            given["outside"] = {"0": 0, "1": 1}.get(given["outside"], given["outside"])
        return cls(**given, radii=tuple(radii))

    def __str__(self) -> str:
        return f"amplitude={self.amplitude},phase={self.phase}" + (f",outside={self.outside}" if self.outside else "")


def in_band(radius: NDArray[np.float64], band: str, radii: tuple[float, ...] = RADII) -> NDArray[np.bool_]:
    """Whether frequencies at distances `radius` from zero, in cycles per pixel, belong to `band`."""
    low, high = radii
    return {
        "full": np.ones(np.shape(radius), bool),
        "low": radius <= low,
        "band": (radius > low) & (radius <= high),
        "high": radius > high,
    }[band]


def radius_of(height: int, width: int) -> NDArray[np.float64]:
    """The distance of each frequency from zero in cycles per pixel, (H, W), zero frequency first."""
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


def band_pass(images: ArrayLike, band: str, radii: tuple[float, ...] = RADII) -> NDArray[np.float64]:
    """The part of images (..., H, W) in a band, zeros outside it: low, band and high add up to the images."""
    x = np.asarray(images, np.float64)
    kept = in_band(radius_of(*x.shape[-2:]), band, radii)
    return np.fft.ifft2(np.fft.fft2(x) * kept).real


def banded(images: ArrayLike, spectrum: BandFilter) -> NDArray[np.float64]:
    """x̃ of images (..., C, H, W) in 0..1: real, of the same shape, not clipped."""
    x = np.asarray(images, np.float64)
    radius = radius_of(*x.shape[-2:])
    of_amplitude, of_phase = (in_band(radius, band, spectrum.radii) for band in (spectrum.amplitude, spectrum.phase))
    amplitudes = np.where(of_amplitude, amplitude(x, "hw"), 1.0)
    return compose(amplitudes, np.where(of_phase, phase(x, "hw"), spectrum.outside), "hw")
