"""FDA: the low frequencies' amplitude of another image.

Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020, section 3.1.
YanchaoYang/FDA was read: utils/__init__.py. Its NumPy form is the one followed, a box of 2b + 1 bins a side around the
zero frequency. Its torch form has 2b; on the half spectrum of later versions that form swaps another box. β is the 0.01
of its README; its training script has 0.1 unless it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape, check_range
from apr_dali.augmentations.shared import mix_amplitudes, mixed_amplitudes, signed_frequencies
from apr_dali.draws import check_partner
from apr_dali.kernels.protocol import KernelBatch


@dataclass(frozen=True, eq=False)
class FdaDraws(Draws):
    """partner: int64 (N,), the image that gives amplitude to each. reach: int64 (N,), b: bins -b..b are given."""

    partner: NDArray[np.int64]
    reach: NDArray[np.int64]

    def __post_init__(self) -> None:
        check_partner(self.partner, len(self.partner))
        self.check_shapes(reach=(len(self),))
        self.check_bounds("reach", 0)

    def __len__(self) -> int:
        return len(self.partner)

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        shape: Shape,
        *,
        beta: tuple[float, float] = (0.01, 0.01),
    ) -> FdaDraws:
        """A permutation for the partners, and b = ⌊L·min(H, W)⌋ with L uniform in beta, both 0..0.5.

        With ⌊L·min(H, W)⌋ = 0, as on small images at the published L, the mean color alone is given.
        """
        check_range("beta", beta, 0, 0.5)
        batch, channels, height, width = shape
        partner = generator.permutation(batch)
        reach = np.floor(generator.uniform(*beta, batch) * min(height, width)).astype(np.int64)
        return cls(height, width, channels, partner, reach)

    def weight(self) -> NDArray[np.float64]:
        """1 in the box and 0 around it: float64 (N, 1, H, W), zero frequency first."""
        reach = self.reach[:, None]
        rows, columns = (abs(signed_frequencies(size)) <= reach for size in (self.height, self.width))
        return (rows[:, None, :, None] & columns[:, None, None, :]).astype(np.float64)


def define(images: NDArray[np.float64], draws: FdaDraws) -> NDArray[np.float64]:
    """iF((M·A_j + (1 - M)·A_i)·e^{iφ_i}), M the box; float64 (N, C, H, W) to the same."""
    return mixed_amplitudes(images, images[draws.partner], draws.weight())


def torch_form(images: Tensor, draws: FdaDraws) -> Tensor:
    """`define` in torch: floating (N, C, H, W) to the same."""
    return mix_amplitudes(images, draws.partner, draws.weight())


def kernel_form(batch: KernelBatch, draws: FdaDraws) -> Any:
    """`define` in C++ or on a CUDA device."""
    box = np.stack([-draws.reach, draws.reach] * 2, axis=-1)
    return batch.run("amplitudes", draws.partner, np.ones(len(draws)), box)


AUGMENTATIONS = (
    Augmentation(
        name="fda",
        paper='Yang and Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020',
        equation="x' = iF(M_β·A(x_j) + (1 - M_β)·A(x_i), P(x_i)), M_β = 1 where |k| ≤ ⌊β·min(H, W)⌋ on both axes",
        source="YanchaoYang/FDA: utils/__init__.py, README.md, options/train_options.py",
        draws=FdaDraws,
        define=define,
        torch_form=torch_form,
        native_form=kernel_form,
        cuda_form=kernel_form,
        # The entropy of the other domain's predictions, to the power eta, is minimized beside the cross entropy.
        recipes=(Recipe("cityscapes", {"beta": (0.01, 0.01)}, weights={"entropy": 0.005, "eta": 2.0}),),
        partner=True,
    ),
)
