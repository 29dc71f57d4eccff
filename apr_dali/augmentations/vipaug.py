"""VIPAug-G: APR-S whose phase gets noise, less of it where the phase is vital: at the largest of each four bins.

Lee, Lee and Myung, "Domain Generalization with Vital Phase Augmentation", AAAI 2024. excitedkid/vipaug was read:
datasets/VIP.py, main.py and core/train.py. The released code puts the phase of fractals in before, on 15 % of the
images of CIFAR and 10 % of those of ImageNet (VIPAug-F); that needs their fractals and is left out. In training APR-P
follows, as in APR-SP.

The noise is not odd, as a phase of a real image is, and the released code keeps the real part: at each bin that is the
mean of what k and -k give, A/2·(e^{i(φ + n(k))} + e^{i(φ - n(-k))}).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali import pillow_ops, spectral
from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape
from apr_dali.draws import SingleDraws
from apr_dali.errors import InputError, check_number, check_share
from apr_dali.kernels import torch_backend
from apr_dali.kernels.cpu.augmentations import NativeBatch
from apr_dali.kernels.protocol import KernelBatch
from apr_dali.kernels.torch_copies import put
from apr_dali.kernels.torch_spectrum import give_amplitude, half_spectrum, inverse

_TIE = 1e-9
"""Bins whose amplitudes differ by less, relative, are equal: at odd sizes a pair k, -k lies among four, and whole
levels make others, whose difference is rounding. The first of equals is vital."""


@dataclass(frozen=True, eq=False)
class VipAugDraws(Draws):
    """views: the operations of the two views of each image, whether they are recombined, and which one gives amplitude.

    noisy: int64 (K,), the recombined images whose phase gets noise, ascending. noise: float32 (K, C, H, W), of
    standard deviation 1, on the full spectrum over channels, rows and columns, zero frequency first.
    vital, nonvital: variance of the noise at vital and at other bins, in squared radians.
    """

    views: SingleDraws
    noisy: NDArray[np.int64]
    noise: NDArray[np.float32]
    vital: float
    nonvital: float

    def __post_init__(self) -> None:
        self.check_shapes(noise=(len(self.noisy), self.channels, self.height, self.width))
        check_number("vital", self.vital)
        check_number("nonvital", self.nonvital)
        self.check_bounds("noisy", 0, len(self) - 1)
        if (np.diff(self.noisy) <= 0).any() or not self.views.mix[self.noisy].all():
            raise InputError(
                "noisy must name images that are recombined, in ascending order: views.mix is True for them"
            )

    def __len__(self) -> int:
        return len(self.views)

    def kernel_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.float32], float, float]:
        """What kernels take of the noise: which one is an image's, (N,), -1 for none; the noise; and what it is
        multiplied with at vital and at other bins."""
        which = np.full(len(self), -1, np.int64)
        which[self.noisy] = np.arange(len(self.noisy))
        return which, self.noise, self.vital**0.5, self.nonvital**0.5

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        shape: Shape,
        *,
        vital: float = 0.001,
        nonvital: float = 0.014,
        p: float = 0.5,
    ) -> VipAugDraws:
        """APR-S's draws, and for the share `p` of the recombined images the noise of their phase."""
        check_share("p", p)
        batch, channels, height, width = shape
        views = SingleDraws.sample(batch, height, width, generator)
        noisy = np.flatnonzero(views.mix & (generator.random(batch) < p))
        noise = generator.standard_normal((len(noisy), channels, height, width), np.float32)
        return cls(height, width, channels, views, noisy, noise, vital, nonvital)


def vital_bins(amplitudes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The first largest of each two by two bins of amplitudes, float64 (..., H, W), by channel; none in what remains of
    an odd size."""
    height, width = (size // 2 * 2 for size in amplitudes.shape[-2:])
    four = np.stack([amplitudes[..., y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)])
    first = np.argmax(four >= (1 - _TIE) * four.max(axis=0), axis=0)
    out = np.zeros(amplitudes.shape, bool)
    for place in range(4):
        out[..., place // 2 : height : 2, place % 2 : width : 2] = first == place
    return out


def define(images: NDArray[np.uint8], draws: VipAugDraws) -> NDArray[np.float64]:
    """iF(A_a·e^{i(φ_b + n)}), a and b the two views, n ~ N(0, vital) at the vital bins of b and N(0, nonvital) else.

    uint8 (N, H, W, 3) to real levels, float64 (N, 3, H, W). An image that is not recombined is its first view.
    """
    out = np.empty((len(images), 3, draws.height, draws.width))
    noise = dict(zip(draws.noisy.tolist(), draws.noise.astype(np.float64), strict=True))
    for n, image in enumerate(images):
        first, second = pillow_ops.two_views(image, draws.views, n)
        if second is None:
            out[n] = np.moveaxis(first, -1, 0)
            continue
        views = np.moveaxis(np.stack([first, second]), -1, 1)
        giver = int(draws.views.amplitude_of_second[n])
        phases = spectral.phase(views[1 - giver])
        if n in noise:
            variance = np.where(vital_bins(spectral.amplitude(views[1 - giver])), draws.vital, draws.nonvital)
            phases = phases + np.sqrt(variance) * noise[n]
        out[n] = spectral.compose(spectral.amplitude(views[giver]), phases)
    return out


def torch_form(images: Tensor, draws: VipAugDraws) -> Tensor:
    """`define` in torch: uint8 (N, H, W, 3) to floating levels (N, 3, H, W)."""
    first, where, second, swap = torch_backend.two_views(images, draws.views)
    out = first.permute(0, 3, 1, 2).to(torch.float32)
    if not len(where):
        return out
    own, other = out[where], second.permute(0, 3, 1, 2).to(torch.float32)
    phase_of, amplitude_of = torch.where(swap, own, other), torch.where(swap, other, own)
    half, given = half_spectrum(phase_of, "chw"), half_spectrum(amplitude_of, "chw").abs()
    mixed = give_amplitude(half, half.abs(), given)
    rows = put(np.searchsorted(np.flatnonzero(draws.views.mix), draws.noisy), images.device)
    if len(rows):
        mixed[rows] *= _phase_noise(phase_of[rows], draws)
    out[where] = inverse(mixed, draws.height, draws.width, "chw")
    return out


def native_form(batch: NativeBatch, draws: VipAugDraws) -> NDArray[np.uint8]:
    """`define` in C++: uint8 (N, H, W, 3) to the same."""
    views = draws.views
    choices = views.operation, views.parameters, views.mix, views.amplitude_of_second
    return batch.run_with("noisy_views", *choices, *draws.kernel_numbers())


def cuda_form(batch: KernelBatch, draws: VipAugDraws) -> Any:
    """`define` on a CUDA device."""
    return batch.run("noisy_views", draws.views, *draws.kernel_numbers())


def _phase_noise(images: Tensor, draws: VipAugDraws) -> Tensor:
    """What the noise multiplies the half spectra of images (K, C, H, W) with: complex (K, C, H, W // 2 + 1)."""
    # float64: what is largest of four would follow float32's rounding.
    amplitudes = half_spectrum(images.to(torch.float64), "chw").abs()
    bins = amplitudes.shape[-1]
    vital = _vital(torch.cat([amplitudes, _mirrored(amplitudes, draws.width)[..., bins:]], dim=-1))
    deviations = torch.where(vital, draws.vital**0.5, draws.nonvital**0.5)
    noise = put(draws.noise, images.device) * deviations.to(images.dtype)
    ahead, behind = noise[..., :bins], _mirrored(noise, draws.width)[..., :bins]
    real, imaginary = (ahead.cos() + behind.cos()) / 2, (ahead.sin() - behind.sin()) / 2
    return torch.complex(real, imaginary)


def _mirrored(values: Tensor, width: int) -> Tensor:
    """What a spectrum of `width` columns has at -k in (c, ky, kx), for all its columns as far as `values` reach."""
    for dim in (-3, -2):
        values = values.flip(dim).roll(1, dim)
    columns = put(-np.arange(width) % width, values.device)
    if values.shape[-1] < width:
        # Columns 0..W // 2 are there: at the others the mirrored column is one of them.
        columns = columns.clamp(max=values.shape[-1] - 1)
    return values.index_select(-1, columns)


def _vital(amplitudes: Tensor) -> Tensor:
    """`vital_bins` of floating (K, C, H, W): bool of that shape."""
    height, width = (size // 2 * 2 for size in amplitudes.shape[-2:])
    out = torch.zeros(amplitudes.shape, dtype=torch.bool, device=amplitudes.device)
    four = torch.stack([amplitudes[..., y:height:2, x:width:2] for y in (0, 1) for x in (0, 1)])
    free = torch.ones_like(four[0], dtype=torch.bool)
    largest = four >= (1 - _TIE) * four.amax(dim=0)
    for place in range(4):
        out[..., place // 2 : height : 2, place % 2 : width : 2] = largest[place] & free
        free &= ~largest[place]
    return out


AUGMENTATIONS = (
    Augmentation(
        name="vipaug-g",
        paper='Lee, Lee and Myung, "Domain Generalization with Vital Phase Augmentation", AAAI 2024',
        equation="x' = iF(A(T_a(x))·exp(i·(P(T_b(x)) + n))), n ~ N(0, σ²_vital) at vital bins, else N(0, σ²_nonvital)",
        source="excitedkid/vipaug: datasets/VIP.py, main.py, core/train.py",
        draws=VipAugDraws,
        define=define,
        torch_form=torch_form,
        native_form=native_form,
        cuda_form=cuda_form,
        recipes=(
            Recipe("cifar10", {"vital": 0.001, "nonvital": 0.014}),
            Recipe("cifar100", {"vital": 0.005, "nonvital": 0.012}),
            Recipe("imagenet", {"vital": 0.001, "nonvital": 0.005}),
        ),
        takes="levels",
        overflow="wrap",
    ),
)
