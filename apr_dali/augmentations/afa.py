"""AFA: a plane wave of its own on each channel, which no transform is needed for.

Vaish, Wang and Strisciuglio, "Fourier-basis Functions to Bridge Augmentation Gap: Rethinking Frequency Augmentation in
Image Classification", CVPR 2024. nis-research/afa-augment was read: project/augs/fba/fourier_basis.py (the wave),
config_utils.py, utils.py and README.md (the numbers).

The released code is for square images. For others the frequencies are those of the longer side, and the strength keeps
its mean square per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape
from apr_dali.errors import check_number, check_whole
from apr_dali.kernels.protocol import KernelBatch
from apr_dali.kernels.torch_copies import put


@dataclass(frozen=True, eq=False)
class AfaDraws(Draws):
    """frequency: float64 (N, C), f, cycles per pixel. angle: float64 (N, C), ω, radians. strength: float64 (N, C),
    s, at least 0.
    """

    frequency: NDArray[np.float64]
    angle: NDArray[np.float64]
    strength: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = (len(self), self.channels)
        self.check_shapes(frequency=shape, angle=shape, strength=shape)
        self.check_bounds("strength", 0)

    def __len__(self) -> int:
        return len(self.frequency)

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        shape: Shape,
        *,
        mean: float = 10.0,
        least: float = 0.0,
        angles: int = 448,
    ) -> AfaDraws:
        """f of {1, ..., H} / H, ω of `angles` values from -π to 0, s exponential with this `mean`, from `least` on."""
        check_whole("angles", angles, 1)
        check_number("mean", mean, positive=True)
        check_number("least", least)
        batch, channels, height, width = shape
        planes, side = (batch, channels), max(height, width)
        frequency = generator.integers(1, side + 1, planes) / side
        angle = -np.pi * np.linspace(0, 1, angles)[generator.integers(0, angles, planes)]
        return cls(height, width, channels, frequency, angle, generator.exponential(mean, planes) + least)

    def size(self) -> float:
        """What a wave of norm 1 and strength 1 is multiplied with: H / 32 for squares."""
        return math.sqrt(self.height * self.width) / 32


_NO_WAVE = 1e-6
"""A norm below which all pixels lie on zeros of the wave, as a single one may: nothing is added to them."""


def define(images: NDArray[np.float64], draws: AfaDraws) -> NDArray[np.float64]:
    """clip(x + H/32·s·W, 0, 1) with W = sin(2πf(u·cos ω + v·sin ω) - π/4) / ‖·‖₂, u down and v across.

    float64 (N, C, H, W) in 0..1 to the same.
    """
    u = np.linspace(-draws.height / 2, draws.height / 2, draws.height)[:, None]
    v = np.linspace(-draws.width / 2, draws.width / 2, draws.width)
    out = images.copy()
    for n in range(len(out)):
        for c in range(draws.channels):
            f, angle = draws.frequency[n, c], draws.angle[n, c]
            wave = np.sin(2 * np.pi * f * (u * np.cos(angle) + v * np.sin(angle)) - np.pi / 4)
            out[n, c] += draws.size() * draws.strength[n, c] * wave / max(float(np.linalg.norm(wave)), _NO_WAVE)
    return np.clip(out, 0, 1)


def torch_form(images: Tensor, draws: AfaDraws) -> Tensor:
    """`define` in torch: floating (N, C, H, W) in 0..1 to the same."""

    def along(direction: NDArray[np.float64], size: int, shift: float) -> tuple[Tensor, Tensor]:
        """Sine and cosine of the angle along an axis, (N, C, size)."""
        # float64: an angle of a hundred turns has few digits left in float32.
        points = torch.linspace(-size / 2, size / 2, size, dtype=torch.float64, device=images.device)
        turns = put(2 * np.pi * draws.frequency * direction, images.device)
        angles = turns[..., None] * points + shift
        return angles.sin().to(images.dtype), angles.cos().to(images.dtype)

    sin_down, cos_down = along(np.cos(draws.angle), draws.height, -math.pi / 4)
    sin_across, cos_across = along(np.sin(draws.angle), draws.width, 0.0)
    # sin(a + b): two products of a row and a column instead of a sine for each pixel.
    wave = (sin_down[..., None] * cos_across[..., None, :]).addcmul_(cos_down[..., None], sin_across[..., None, :])
    strength = put(draws.size() * draws.strength, images.device, images.dtype)
    norm = torch.linalg.vector_norm(wave, dim=(-2, -1)).clamp_min_(_NO_WAVE)
    return torch.addcmul(images, wave, (strength / norm)[..., None, None]).clamp_(0, 1)


def kernel_form(batch: KernelBatch, draws: AfaDraws) -> Any:
    """`define` in C++ or on a CUDA device."""
    half_turns = 2 * draws.frequency
    down, across = half_turns * np.cos(draws.angle), half_turns * np.sin(draws.angle)
    return batch.run("waves", down, across, draws.size() * draws.strength, -1 / 4, _NO_WAVE)


def _recipe(dataset: str, jsd: float) -> Recipe:
    return Recipe(
        dataset,
        {"mean": 10.0, "least": 0.0, "angles": 448},
        views=2,
        objective="auxiliary",
        # jsd: in place of the auxiliary mean, where the released code is run with it.
        weights={"clean": 0.5, "augmented": 0.5, "jsd": jsd},
    )


AUGMENTATIONS = (
    Augmentation(
        name="afa",
        paper='Vaish et al., "Fourier-basis Functions to Bridge Augmentation Gap", CVPR 2024 (AFA)',
        equation="x' = clip(x + s·A_{f,ω}, 0, 1), A_{f,ω}(u, v) = R·sin(2πf(u·cos ω + v·sin ω) - π/4), s ~ Exp(1/mean)",
        source="nis-research/afa-augment: project/augs/fba/fourier_basis.py, config_utils.py, utils.py, README.md",
        draws=AfaDraws,
        define=define,
        torch_form=torch_form,
        native_form=kernel_form,
        cuda_form=kernel_form,
        recipes=(_recipe("cifar10", 10.0), _recipe("cifar100", 1.0), _recipe("imagenet", 12.0)),
        unit=True,
    ),
)
