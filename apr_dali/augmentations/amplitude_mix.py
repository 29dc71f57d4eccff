"""Amplitude mix: an image keeps its phase, and its amplitude is a mean of its own and another image's.

Xu, Zhang, Zhang, Wang and Tian, "A Fourier-based Framework for Domain Generalization", CVPR 2021 (FACT), section 3.2.
MediaBrain-SJTU/FACT was read: data/data_utils.py (the mix), config/PACS/ResNet50.py and train.py (the numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape
from apr_dali.augmentations.shared import mix_amplitudes, mixed_amplitudes
from apr_dali.draws import check_partner
from apr_dali.errors import check_share
from apr_dali.kernels.protocol import KernelBatch


@dataclass(frozen=True, eq=False)
class AmplitudeMixDraws(Draws):
    """partner: int64 (N,), the image that gives amplitude to each. share: float64 (N,), λ in 0..1, how much of it.

    ratio: share of the bins that are mixed, 0..1: a box around the zero frequency, whose sides are √ratio of the
    spectrum's, rounded down.
    """

    partner: NDArray[np.int64]
    share: NDArray[np.float64]
    ratio: float

    def __post_init__(self) -> None:
        check_partner(self.partner, len(self.partner))
        self.check_shapes(share=(len(self),))
        self.check_bounds("share", 0, 1)
        check_share("ratio", self.ratio)

    def __len__(self) -> int:
        return len(self.partner)

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        shape: Shape,
        *,
        alpha: float = 1.0,
        ratio: float = 1.0,
    ) -> AmplitudeMixDraws:
        """A permutation for the partners, and λ uniform in 0..alpha for each image."""
        check_share("alpha", alpha)
        check_share("ratio", ratio)
        batch, channels, height, width = shape
        return cls(
            height, width, channels, generator.permutation(batch), generator.uniform(0, alpha, batch), float(ratio)
        )

    def box(self) -> NDArray[np.int64]:
        """The first and the last frequency of the box along rows, and along columns, signed: int64 (N, 4)."""
        sides = [_side(size, self.ratio) for size in (self.height, self.width)]
        ends = [end for side in sides for end in (-(side // 2), side - side // 2 - 1)]
        return np.tile(np.array(ends, np.int64), (len(self), 1))

    def weight(self) -> NDArray[np.float64]:
        """How much of its partner's amplitude each bin takes: float64 (N, 1, H, W), zero frequency first."""
        rows, columns = (_middle(size, self.ratio) for size in (self.height, self.width))
        return self.share[:, None, None, None] * (rows[:, None] & columns)


def _side(size: int, ratio: float) -> int:
    return int(size * np.sqrt(ratio))


def _middle(size: int, ratio: float) -> NDArray[np.bool_]:
    """The bins along an axis, (size,), that lie in the box: the released code's slice of the shifted spectrum."""
    side = _side(size, ratio)
    place = np.arange(size) - (size // 2 - side // 2)
    return np.fft.ifftshift((place >= 0) & (place < side))


def define(images: NDArray[np.float64], draws: AmplitudeMixDraws) -> NDArray[np.float64]:
    """Â = (1 - λ)·A_i + λ·A_j in the box, A_i around it; iF(Â·e^{iφ_i}); float64 (N, C, H, W) to the same."""
    return mixed_amplitudes(images, images[draws.partner], draws.weight())


def torch_form(images: Tensor, draws: AmplitudeMixDraws) -> Tensor:
    """`define` in torch: floating (N, C, H, W) to the same."""
    return mix_amplitudes(images, draws.partner, draws.weight())


def kernel_form(batch: KernelBatch, draws: AmplitudeMixDraws) -> Any:
    """`define` in C++ or on a CUDA device."""
    return batch.run("amplitudes", draws.partner, draws.share, draws.box())


AUGMENTATIONS = (
    Augmentation(
        name="amplitude-mix",
        paper='Xu et al., "A Fourier-based Framework for Domain Generalization", CVPR 2021 (FACT)',
        equation="Â(x_i) = (1 - λ)·A(x_i) + λ·A(x_j), x' = iF(Â(x_i)·exp(i·P(x_i))), λ ~ U(0, η)",
        source="MediaBrain-SJTU/FACT: data/data_utils.py, config/PACS/ResNet50.py, train.py",
        draws=AmplitudeMixDraws,
        define=define,
        torch_form=torch_form,
        native_form=kernel_form,
        cuda_form=kernel_form,
        recipes=(
            Recipe(
                "pacs",
                {"alpha": 1.0, "ratio": 1.0},
                views=2,
                objective="teacher",
                # Cross entropy of both views by half, both divergences by `consistency` after a sigmoid warm-up.
                weights={
                    "consistency": 2.0,
                    "temperature": 10.0,
                    "warmup_epochs": 5.0,
                    "teacher_momentum": 0.9995,
                },
            ),
        ),
        partner=True,
        overflow="truncate",
    ),
)
