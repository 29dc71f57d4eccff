"""The operators at work on photographs: panels as arrays, one picture, and one page in one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import apr_dali
from apr_dali import spectral
from apr_dali.draws import PairDraws, SingleDraws
from apr_dali.eval.page import Section, html
from apr_dali.runtime.figures import new_figure, png_of

Pixels = NDArray[np.uint8]

_DPI = 100
_COLORS = 256
_EXTENT = (-0.5, 0.5, 0.5, -0.5)  # of a spectrum in cycles per pixel: left, right, bottom, top
_TICKS = ([-0.5, 0, 0.5], ["−½", "0", "½"])


@dataclass(frozen=True)
class Row:
    """A photograph and what the operators make of it: uint8 (H, W, 3), 0..255.

    amplitude: log10(1 + |F|) of its luminance, float (H, W), zero frequency in the middle. phase: ∠F in radians.
    single: APR-S by the overflow mode. operations: what gives it its phase and its amplitude. pair: APR-P, clipped.
    """

    name: str
    photograph: Pixels
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    single: dict[str, Pixels]
    operations: tuple[str, str]
    partner_name: str
    partner: Pixels
    pair: Pixels

    @property
    def wrapped(self) -> float:
        """The share of values of APR-S that the two overflow modes put more than a rounding apart."""
        apart = np.abs(self.single["wrap"].astype(int) - self.single["clamp"])
        return float((apart > 1).mean())


def rows(images: Pixels, names: Sequence[str], seed: int) -> list[Row]:
    """What APR-S and APR-P make of photographs, uint8 (N, H, W, 3), 0..255, N at least 2.

    APR-S has its draws from `seed`, but always recombines; APR-P's partner is the next photograph, as published over
    the channels too.
    """
    draws = SingleDraws.sample(len(images), images.shape[1], images.shape[2], seed)
    draws = replace(draws, mix=np.ones_like(draws.mix))
    singles = {overflow: apr_dali.single(images, draws, overflow=overflow) for overflow in spectral.OVERFLOWS}
    pair = PairDraws(np.roll(np.arange(len(images)), -1), mix=True)
    mixed = np.moveaxis(apr_dali.pair(images, pair.partner, pair.mix), 1, -1)
    return [
        Row(
            name,
            image,
            *spectra(image),
            {overflow: single[n] for overflow, single in singles.items()},
            draws.describe(n),
            names[pair.partner[n]],
            images[pair.partner[n]],
            spectral.to_levels(mixed[n], "clamp"),
        )
        for n, (name, image) in enumerate(zip(names, images, strict=True))
    ]


def spectra(image: Pixels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log10(1 + |F|) and ∠F in radians of the luminance of an image (H, W, 3): (H, W), zero frequency in the middle."""
    gray = np.asarray(Image.fromarray(image).convert("L"))[None]
    amplitude, phase = spectral.amplitude(gray, "hw")[0], spectral.phase(gray, "hw")[0]
    return np.log10(1 + np.fft.fftshift(amplitude)), np.fft.fftshift(phase)


# ---- how it looks ----------------------------------------------------------------------------------------------------


_TITLES = ("photograph", "log₁₀ amplitude", "phase, −π to π", "APR-S, wrap", "APR-S, clamp", "partner", "APR-P")
_NOTES = (
    "A photograph's amplitude and phase spectrum (of its luminance, zero frequency in the middle), and what the two "
    "operators make of the photograph. Both keep a phase and take another amplitude: x' = iDFT(|F(a)|·exp(i·∠F(p))).",
    "APR-S takes both from augmented views of the photograph itself: p and a are what one operation gives, and what a "
    "second makes of that. As published, values outside 0..255 wrap around; clamped, they are cut.",
    "APR-P takes the amplitude of another photograph, the partner. The network sees its values outside 0..255; here "
    "they are cut.",
)


def gallery_picture(found: Sequence[Row], width: int = 1200) -> bytes:
    """A line of seven panels per photograph, `width` pixels wide; PNG of 256 colors, small enough for a README."""
    inches = width / _DPI
    figure = new_figure(inches, (inches / 7 + 0.2) * len(found) + 0.15)
    grid = figure.subplots(len(found), len(_TITLES), squeeze=False)
    for row, line in zip(found, grid, strict=True):
        _draw_row(row, line)
    for axes, title in zip(grid[0], _TITLES, strict=True):
        axes.set_title(title, fontsize=9)
    picture = io.BytesIO(png_of(figure, _DPI))
    small = io.BytesIO()
    # Noise, as phases are, takes a byte a pixel instead of three; dithering would make noise of the rest too.
    reduced = Image.open(picture).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    reduced.save(small, "PNG", optimize=True)
    return small.getvalue()


def gallery_page(found: Sequence[Row]) -> str:
    """The same with words, as one HTML file without scripts."""
    sections = [Section("What is shown", _NOTES)]
    for row in found:
        phase, amplitude = row.operations
        operations = f"APR-S: phase of “{phase}”, amplitude of “{amplitude}”."
        pair = f"APR-P: phase of {row.name}, amplitude of {row.partner_name}."
        line = gallery_picture([row])
        sections.append(Section(row.name, (operations, pair), pictures=((f"{row.name}: " + ", ".join(_TITLES), line),)))
    return html("Amplitude-Phase Recombination at work", sections)


def _draw_row(row: Row, line: Sequence[Any]) -> None:
    phase, amplitude = row.operations
    _photo(line[0], row.photograph, row.name)
    line[1].imshow(row.amplitude, cmap="gray", extent=_EXTENT)
    line[2].imshow(row.phase, cmap="twilight", vmin=-np.pi, vmax=np.pi, extent=_EXTENT)
    for spectrum in line[1:3]:
        spectrum.set(xticks=_TICKS[0], xticklabels=_TICKS[1], yticks=[])
        spectrum.tick_params(labelsize=7, length=2, pad=1)
        spectrum.set_xlabel("cycles per pixel", fontsize=7, labelpad=0)
    caption = f"phase: {phase}\namplitude: {amplitude}"
    _photo(line[3], row.single["wrap"], caption)
    _photo(line[4], row.single["clamp"], caption)
    _photo(line[5], row.partner, row.partner_name)
    _photo(line[6], row.pair, f"phase: {row.name}\namplitude: {row.partner_name}")


def _photo(axes: Any, pixels: Pixels, caption: str) -> None:
    axes.imshow(pixels)
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(caption, fontsize=7, labelpad=3)
