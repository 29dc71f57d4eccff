"""Gains and masks on the spectrum: amplitudes scaled bin by bin, all phases shifted, bins dropped, Gaussians cut out.

Kalibhat et al., "Disentangling the Effects of Data Augmentation and Format Transform in Self-Supervised Learning of
Image Representations", arXiv 2312.02205 (Fourier Domain Augmentation). lightly-ai/lightly was read, which has it:
amplitude_rescale_transform.py, phase_shift_transform.py, random_frequency_mask_transform.py,
gaussian_mixture_masks_transform.py and fda_transform.py (the probabilities) of lightly/transforms.

All is drawn for the half spectrum (H, W // 2 + 1), zero frequency first, and is the same for all channels. Where a
bin's mirror image lies in the half too, at kx = 0 and W / 2, the mean of what both ask for is taken: the real part.

lightly makes 8-bit images of the results without clipping, which wraps what leaves 0..255, most of all by gains of the
zero frequency. Here uint8 images are clipped; `overflow="wrap"` is lightly's way.

The Gaussians' sigmas are bins, published for images of 224 × 224, of which 0.8 of the root mean square remain. Of
32 × 32 pixels 1e-4 remain: give fewer or smaller ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape, check_range
from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.kernels.cpu.augmentations import NativeBatch
from apr_dali.kernels.protocol import KernelBatch
from apr_dali.kernels.torch_copies import put


@dataclass(frozen=True, eq=False)
class SpectralGainsDraws(Draws):
    """gain: float64 (N, H, W // 2 + 1), of amplitudes. shift: float64 (N,), of phases, radians. keep: bool
    (N, H, W // 2 + 1), bins that are kept.

    center: int64 (N, G, 2), row and column of the Gaussians that are cut out. sigma: float64 (N, G, 2), in bins along
    rows and columns. masked: bool (N,), whether they are.
    """

    gain: NDArray[np.float64]
    shift: NDArray[np.float64]
    keep: NDArray[np.bool_]
    center: NDArray[np.int64]
    sigma: NDArray[np.float64]
    masked: NDArray[np.bool_]

    def __post_init__(self) -> None:
        bins = (len(self), self.height, self.width // 2 + 1)
        pairs = (len(self), self.center.shape[1], 2)
        self.check_shapes(gain=bins, keep=bins, shift=bins[:1], center=pairs, sigma=pairs, masked=bins[:1])
        self.check_bounds("gain", 0)
        self.check_bounds("sigma", np.finfo(float).tiny)

    def __len__(self) -> int:
        return len(self.gain)

    @classmethod
    def draw(
        cls,
        random: np.random.Generator,
        shape: Shape,
        *,
        p: Mapping[str, float],
        amplitude: tuple[float, float] = (0.8, 1.75),
        phase: tuple[float, float] = (0.4, 0.7),
        dropped: tuple[float, float] = (0.01, 0.1),
        gaussians: int = 20,
        sigma: tuple[float, float] = (10.0, 15.0),
    ) -> SpectralGainsDraws:
        """For each image a coin for each part.

        p: shares of heads for "amplitude", "phase", "mask" and "gaussian"; 0 for those that it lacks. Gains uniform in
        `amplitude` for each bin; one shift uniform in `phase`; a share uniform in `dropped` of the bins dropped, never
        the zero frequency; `gaussians` of them at uniform bins, with sigmas uniform in `sigma`.
        """
        shares = _shares(p)
        check_range("amplitude", amplitude, 0)
        check_range("phase", phase, -np.inf)
        check_range("dropped", dropped, 0, 1)
        check_range("sigma", sigma, np.finfo(float).tiny)
        check_whole("gaussians", gaussians, 0)
        batch, channels, height, width = shape
        coins = {name: random.random(batch) < share for name, share in shares.items()}
        bins, pairs = (batch, height, width // 2 + 1), (batch, gaussians, 2)
        each = coins["amplitude"][:, None, None], coins["mask"][:, None, None]
        keep = random.random(bins) > random.uniform(*dropped, (batch, 1, 1))
        keep[:, 0, 0] = True
        return cls(
            height,
            width,
            channels,
            gain=np.where(each[0], random.uniform(*amplitude, bins), 1.0),
            shift=np.where(coins["phase"], random.uniform(*phase, batch), 0.0),
            keep=keep | ~each[1],
            center=random.integers(0, bins[1:], pairs),
            sigma=random.uniform(*sigma, pairs),
            masked=coins["gaussian"],
        )


_PARTS = ("amplitude", "phase", "mask", "gaussian")


def _shares(p: Mapping[str, float]) -> dict[str, float]:
    """The share of heads of each part; InputError for what is none."""
    if not isinstance(p, Mapping):
        raise InputError(f"p must have a share for each of {', '.join(_PARTS)}, as {{'mask': 0.5}}, got {p!r}")
    for name, share in p.items():
        check_choice("a part in p", name, _PARTS)
        check_share(f"p[{name!r}]", share)
    return {name: p.get(name, 0.0) for name in _PARTS}


def define(images: NDArray[np.float64], draws: SpectralGainsDraws) -> NDArray[np.float64]:
    """Real part of iF(g·Π(1 - G)·1[keep]·e^{iθ}·F(x)), float64 (N, C, H, W) to the same; what is drawn for the half
    spectrum is mirrored, conjugate, to the other half."""
    height, width = draws.height, draws.width
    rows, columns = np.arange(height)[:, None], np.arange(width // 2 + 1)
    out = np.empty_like(images)
    for n, image in enumerate(images):
        half = draws.gain[n] * draws.keep[n] * np.exp(1j * draws.shift[n])
        if draws.masked[n]:
            for (u, v), (down, across) in zip(draws.center[n], draws.sigma[n], strict=True):
                half = half * (1 - np.exp(-((rows - u) ** 2) / (2 * down**2) - (columns - v) ** 2 / (2 * across**2)))
        full = np.empty((height, width), complex)
        full[:, : width // 2 + 1] = half
        for kx in range(width // 2 + 1, width):
            full[:, kx] = np.conj(half[-np.arange(height) % height, width - kx])
        out[n] = np.fft.ifft2(full * np.fft.fft2(image)).real
    return out


def torch_form(images: Tensor, draws: SpectralGainsDraws) -> Tensor:
    """`define` in torch: floating (N, C, H, W) to the same."""
    gain = put(draws.gain * draws.keep, images.device, images.dtype)
    masked = np.flatnonzero(draws.masked)
    if len(masked):
        gain[put(masked, gain.device)] *= _remaining(draws.center[masked], draws.sigma[masked], gain[:1])
    shift = put(draws.shift, images.device, images.dtype)[:, None, None]
    half = torch.fft.rfft2(images) * torch.complex(gain * shift.cos(), gain * shift.sin())[:, None]
    return torch.fft.irfft2(_real_part(half, draws.width), s=(draws.height, draws.width))


def native_form(batch: NativeBatch, draws: SpectralGainsDraws) -> NDArray[Any]:
    """`define` in C++."""
    gain, masked = draws.gain * draws.keep, np.flatnonzero(draws.masked)
    if len(masked):
        gain[masked] *= _remaining(draws.center[masked], draws.sigma[masked], torch.from_numpy(gain[:1])).numpy()
    return batch.run("gains", gain, draws.shift)


def cuda_form(batch: KernelBatch, draws: SpectralGainsDraws) -> Any:
    """`define` on a CUDA device."""
    masked = np.flatnonzero(draws.masked)
    gaussians = masked, draws.center[masked], draws.sigma[masked]
    gain = draws.gain.astype(np.float32)  # as it goes to the device: half the memory of a product in float64
    gain *= draws.keep
    return batch.run("gains", gain, draws.shift, *gaussians)


def _remaining(center: NDArray[np.int64], sigma: NDArray[np.float64], like: Tensor) -> Tensor:
    """What the Gaussians leave, (K, H, W // 2 + 1), of the dtype and device of `like`, whose last sizes are these."""

    def along(axis: int) -> Tensor:
        place = torch.arange(like.shape[1 + axis], dtype=like.dtype, device=like.device)
        middle, width = (put(a[..., axis], like.device, like.dtype) for a in (center, sigma))
        return torch.exp(-(((place - middle[..., None]) / width[..., None]) ** 2) / 2)

    rows, columns = along(0), along(1)
    out = torch.ones_like(like).repeat(len(center), 1, 1)
    for index in range(center.shape[1]):  # one at a time: all of them would take that many spectra of memory
        out *= 1 - rows[:, index, :, None] * columns[:, index, None, :]
    return out


def _real_part(half: Tensor, width: int) -> Tensor:
    """A half spectrum (..., H, W // 2 + 1) with the columns that mirror themselves made those of a real image."""
    for column in {0, width // 2} if width % 2 == 0 else {0}:
        own = half[..., column]
        half[..., column] = (own + own.flip(-1).roll(1, -1).conj()) / 2
    return half


_augmentation = partial(
    Augmentation,
    paper='Kalibhat et al., "Disentangling the Effects of Data Augmentation and Format Transform in Self-Supervised '
    'Learning of Image Representations", arXiv 2312.02205',
    source="lightly-ai/lightly: amplitude_rescale_transform.py, phase_shift_transform.py, fda_transform.py, "
    "random_frequency_mask_transform.py, gaussian_mixture_masks_transform.py of lightly/transforms",
    draws=SpectralGainsDraws,
    define=define,
    torch_form=torch_form,
    native_form=native_form,
    cuda_form=cuda_form,
)


def _recipes(**p: float) -> tuple[Recipe, ...]:
    settings: dict[str, Any] = {"p": p}
    return (Recipe("imagenet", settings, views=2, objective="self-supervised"),)


AUGMENTATIONS = (
    _augmentation(
        name="spectral-gains",
        equation="x' = iF(Π_j(1 - G_j)·1[u > k]·g·exp(iθ)·F(x)): the four below, each with its own probability",
        # The first of the two views; the second has no Gaussians.
        recipes=_recipes(amplitude=0.2, phase=0.2, mask=0.5, gaussian=0.2),
    ),
    _augmentation(
        name="amplitude-rescale", equation="x' = iF(g·F(x)), g ~ U(0.8, 1.75) per bin", recipes=_recipes(amplitude=1.0)
    ),
    _augmentation(name="phase-shift", equation="x' = iF(exp(iθ)·F(x)), θ ~ U(0.4, 0.7)", recipes=_recipes(phase=1.0)),
    _augmentation(
        name="frequency-mask",
        equation="x' = iF(1[u > k]·F(x)), u ~ U(0, 1) per bin, k ~ U(0.01, 0.1), the zero frequency kept",
        recipes=_recipes(mask=1.0),
    ),
    _augmentation(
        name="gaussian-mask",
        equation="x' = iF(Π_j(1 - G_j)·F(x)), 20 Gaussians of height 1, σ ~ U(10, 15) bins",
        recipes=_recipes(gaussian=1.0),
    ),
)
