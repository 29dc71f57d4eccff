"""HybridAugment-P and ++-P: the low frequencies of an image with the high ones of another; ++ also gives the low part
the amplitude of a third one's, as APR-P does.

Yucel, Cinbis and Duygulu, "HybridAugment++: Unified Frequency Spectra Perturbations for Model Robustness", ICCV 2023,
section 3. MKYucel/hybrid_augment was read: core/train.py, main.py (CIFAR) and imagenet.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apr_dali import spectral
from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape
from apr_dali.augmentations.shared import blur, check_blur, gaussian_window
from apr_dali.draws import PairDraws, check_partner
from apr_dali.errors import InputError, check_share
from apr_dali.kernels import torch_backend
from apr_dali.kernels.protocol import KernelBatch
from apr_dali.kernels.torch_copies import put


@dataclass(frozen=True, eq=False)
class HybridPairDraws(Draws):
    """partner: int64 (N,), the image that gives its high frequencies to each. mix: one coin for the batch.

    kernel, sigma: of the Gaussian blur that gives the low part, in pixels. low: APR-P's draws on the low parts of the
    batch, with a coin of their own; None leaves them.
    """

    partner: NDArray[np.int64]
    mix: bool
    kernel: int
    sigma: float
    low: PairDraws | None

    def __post_init__(self) -> None:
        check_partner(self.partner, len(self.partner))
        check_blur(self.kernel, self.sigma)
        if self.low is not None and len(self.low) != len(self):
            raise InputError(f"low must be for {len(self)} images, got draws for {len(self.low)}")

    def __len__(self) -> int:
        return len(self.partner)

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        shape: Shape,
        *,
        p: float = 0.6,
        kernel: int = 3,
        sigma: float = 0.5,
        low_p: float | None = None,
        coin: Sequence[float] | None = None,
    ) -> HybridPairDraws:
        """A coin of heads with share `p` and a permutation; with `low_p` the same of APR-P on the low parts.

        coin: both coins, in place of the generator's; see `Augmentation.coin`.
        """
        check_share("p", p)
        batch, channels, height, width = shape
        drawn, partner = generator.random(), generator.permutation(batch)
        mix = bool((drawn if coin is None else coin[0]) < p)
        low = None
        if low_p is not None:
            check_share("low_p", low_p)
            low = PairDraws.sample(batch, height, width, generator, low_p)
            if coin is not None:
                low = replace(low, mix=bool(coin[1] < low_p))
        return cls(height, width, channels, partner, mix, kernel, sigma, low)


def define(images: NDArray[np.float64], draws: HybridPairDraws) -> NDArray[np.float64]:
    """L(x_i) + x_j - L(x_j), L the blur; ++: the first term with phase of L(x_i) and amplitude of L(x_k).

    float64 (N, C, H, W) to the same. The transform goes over the channels, too.
    """
    if not draws.mix:
        return images
    low = blur(images, draws.kernel, draws.sigma)
    high = images - low
    if draws.low is not None and draws.low.mix:
        low = spectral.recombine(low, low[draws.low.partner])
    return low + high[draws.partner]


def torch_form(images: Tensor, draws: HybridPairDraws) -> Tensor:
    """`define` in torch: floating (N, C, H, W) to the same."""
    if not draws.mix:
        return images.clone()
    low = blur(images, draws.kernel, draws.sigma)
    high = images - low
    if draws.low is not None and draws.low.mix:
        low = torch_backend.recombine(low, low[put(draws.low.partner, low.device)], "chw")
    return low.add_(high[put(draws.partner, high.device)])


def kernel_form(batch: KernelBatch, draws: HybridPairDraws) -> Any:
    """`define` in C++ or on a CUDA device."""
    if not draws.mix:
        return batch.images.copy()
    low = None if draws.low is None or not draws.low.mix else np.ascontiguousarray(draws.low.partner, np.int64)
    return batch.run("hybrid", draws.partner, gaussian_window(draws.kernel, draws.sigma), low)


def _recipe(dataset: str, **settings: Any) -> Recipe:
    return Recipe(dataset, {"p": 0.6, "kernel": 3, **settings}, views=2, objective="both views")


_PAPER = 'Yucel et al., "HybridAugment++: Unified Frequency Spectra Perturbations for Model Robustness", ICCV 2023'
_augmentation = partial(
    Augmentation,
    paper=_PAPER,
    source="MKYucel/hybrid_augment: core/train.py, main.py, imagenet.py",
    draws=HybridPairDraws,
    define=define,
    torch_form=torch_form,
    native_form=kernel_form,
    cuda_form=kernel_form,
    partner=True,
    coin=True,
)

AUGMENTATIONS = (
    _augmentation(
        name="hybrid-p",
        equation="x' = LF(x_i) + HF(x_j)",
        recipes=tuple(_recipe(dataset, sigma=0.5) for dataset in ("cifar10", "cifar100", "imagenet")),
    ),
    _augmentation(
        name="hybrid++-p",
        equation="x' = iF(A(LF(x_k))·exp(i·P(LF(x_i)))) + HF(x_j)",
        recipes=(
            *(_recipe(dataset, sigma=0.5, low_p=0.6) for dataset in ("cifar10", "cifar100")),
            # imagenet.py's blur strength s: kernel 3·s and sigma 1.0·s, s = 1 unless asked for.
            _recipe("imagenet", sigma=1.0, low_p=0.5),
        ),
    ),
)
