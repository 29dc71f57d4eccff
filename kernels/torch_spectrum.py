"""Half spectra of real images in plain torch, as the operators in torch share them.

For real images F(-k) is the conjugate of F(k), so that the bins (..., H, W // 2 + 1) hold everything.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def half_spectrum(x: Tensor, axes: str) -> Tensor:
    """Half spectrum of (N, C, H, W), complex, (N, C, H, W // 2 + 1); see `spectral.spectrum` for the channels."""
    planes = torch.fft.rfft2(x)
    channels = x.shape[-3]
    if axes == "hw" or channels == 1:
        return planes
    if channels != 3:
        return torch.fft.fft(planes, dim=-3)
    r, g, b = planes.unbind(-3)
    t = g + b
    base, turn = r - t / 2, (b - g) * (0.5j * math.sqrt(3))
    return torch.stack([r + t, base + turn, base - turn], dim=-3)


def inverse(half: Tensor, height: int, width: int, axes: str) -> Tensor:
    """The real images of half spectra: the inverse of `half_spectrum`."""
    channels = half.shape[-3]
    if axes == "chw" and channels == 3:
        zero, plus, minus = half.unbind(-3)
        both = plus + minus
        base, turn = zero - both / 2, (plus - minus) * (0.5j * math.sqrt(3))
        half = torch.stack([zero + both, base + turn, base - turn], dim=-3) / 3
    elif axes == "chw" and channels != 1:
        half = torch.fft.ifft(half, dim=-3)
    return torch.fft.irfft2(half, s=(height, width))


def give_amplitude(half: Tensor, own: Tensor, given: Tensor) -> Tensor:
    """`half` with its amplitude `own` replaced by `given`; where it is 0 the phase is 0 and `given` is the result."""
    nothing = own == 0
    ratio = (given / own).masked_fill_(nothing, 0)
    out = half * ratio
    out.real.add_(given * nothing)
    return out
