"""APR by the paper's formula as the released code computes it, to measure against: full transforms, modulus, angle.

Chen et al., ICCV 2021, Eq. 5, and the order of operations of their release: nothing here is fast on purpose or slow
on purpose. APR-P is torch on a batch, APR-S is Pillow and NumPy on one image.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from apr_dali.draws import OPERATIONS, SingleDraws


def pair(images: Tensor, partner: Tensor) -> Tensor:
    """APR-P, floating (B, C, H, W): the batch and the permuted batch transformed, modulus and angle of both taken."""
    amplitudes, phases = [], []
    for batch in (images, images[partner]):
        spectra = torch.fft.fftn(batch, dim=(1, 2, 3))
        amplitudes.append(spectra.abs())
        phases.append(spectra.angle())
    mixed = amplitudes[1] * torch.exp(1j * phases[0])
    return torch.fft.ifftn(mixed, dim=(1, 2, 3)).real


def pair_once(images: Tensor, partner: Tensor) -> Tensor:
    """The same formula, each image transformed once and nothing computed that is not used."""
    spectra = torch.fft.fftn(images, dim=(1, 2, 3))
    mixed = spectra.abs()[partner] * torch.exp(1j * spectra.angle())
    return torch.fft.ifftn(mixed, dim=(1, 2, 3)).real


def single(image: NDArray[np.uint8], draws: SingleDraws, n: int = 0) -> NDArray[np.uint8]:
    """APR-S of one image uint8 (H, W, 3) with the n-th of `draws`: both mixtures are made, one is taken."""
    first = _operation(Image.fromarray(image), int(draws.operation[n, 0]), draws.parameters[n, 0])
    if not draws.mix[n]:
        return np.asarray(first)
    second = _operation(first, int(draws.operation[n, 1]), draws.parameters[n, 1])
    amplitudes, phases = [], []
    for view in (first, second):
        spectrum = np.fft.fftshift(np.fft.fftn(np.asarray(view)))
        amplitudes.append(np.abs(spectrum))
        phases.append(np.angle(spectrum))
    both = [amplitudes[giver] * np.exp(1j * phases[1 - giver]) for giver in (0, 1)]
    mixed = np.fft.ifftn(np.fft.ifftshift(both[int(draws.amplitude_of_second[n])]))
    return mixed.real.astype(np.int64).astype(np.uint8)


def _operation(picture: Image.Image, operation: int, parameters: NDArray[np.float64]) -> Image.Image:
    name = OPERATIONS[operation]
    if name in ("autocontrast", "equalize"):
        return getattr(ImageOps, name)(picture)
    if name in ("posterize", "solarize"):
        return getattr(ImageOps, name)(picture, int(parameters[0]))
    return picture.transform(picture.size, Image.Transform.AFFINE, tuple(parameters), Image.Resampling.BILINEAR)
