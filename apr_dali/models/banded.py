"""A network that sees only bands of the amplitude and the phase of its images: `apr_dali.bands` in torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from apr_dali.bands import BandFilter, in_band, radius_of
from apr_dali.recipes import AprRecipe


class Banded(nn.Module):
    """A network behind the filter of a `BandFilter`: in training and in evaluation it sees x̃ in place of x.

    It takes images (N, C, H, W) normalized with `mean` and `std`, as the network does; the filter works on 0..1.
    """

    def __init__(self, network: nn.Module, spectrum: BandFilter, recipe: AprRecipe) -> None:
        super().__init__()
        self.network, self.spectrum = network, spectrum
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(recipe, name)).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            seen = banded(images.float() * self.std + self.mean, self.spectrum)
            normalized = (seen - self.mean) / self.std
        return self.network(normalized.to(images.dtype))


def banded(images: Tensor, spectrum: BandFilter) -> Tensor:
    """`apr_dali.bands.banded` of float32 or float64 images (..., H, W), on the half spectrum."""
    height, width = images.shape[-2:]
    radius = radius_of(height, width)[:, : width // 2 + 1]
    of_amplitude, of_phase = (
        torch.from_numpy(in_band(radius, band, spectrum.radii)).to(images.device)
        for band in (spectrum.amplitude, spectrum.phase)
    )
    full = torch.fft.rfft2(images)
    amplitude = full.abs()
    # Where nothing is, the phase is 0.
    turn = torch.where(amplitude > 0, full / amplitude, torch.ones_like(full))
    # The real image of a constant phase outside a band is that of its cosine.
    turn = torch.where(of_phase, turn, torch.full_like(full, math.cos(spectrum.outside)))
    amplitude = torch.where(of_amplitude, amplitude, torch.ones_like(amplitude))
    return torch.fft.irfft2(amplitude * turn, s=(height, width))
