"""HybridAugment-S and ++-S: APR-S with low and high frequencies in place of amplitude and phase.

Two views of an image by Pillow's operations, the low frequencies of one with the high ones of the other; ++ puts APR-S
itself on the low parts.

Yucel, Cinbis and Duygulu, "HybridAugment++: Unified Frequency Spectra Perturbations for Model Robustness", ICCV 2023,
section 3. MKYucel/hybrid_augment was read: datasets/APR.py, datasets/transforms.py, main.py and imagenet.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apr_dali import pillow_ops
from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape
from apr_dali.augmentations.shared import blur, check_blur
from apr_dali.draws import SingleDraws
from apr_dali.errors import InputError, check_choice
from apr_dali.kernels import torch_backend

_GRID = 2.0**16
"""Steps of a gray level to which low parts are rounded: those of a flat region are then its level, whatever the order
of a sum, and truncation does not take one off."""


@dataclass(frozen=True, eq=False)
class HybridSingleDraws(Draws):
    """views: the operations of the two views of each image, and whether they are mixed, as of APR-S; where
    `amplitude_of_second` is True the second view gives the low part, else the high one.

    kernel, sigma: of the Gaussian blur, in pixels. low: APR-S's draws for the low part of the first and of the second
    view; None leaves them.
    """

    views: SingleDraws
    kernel: int
    sigma: float
    low: tuple[SingleDraws, SingleDraws] | None

    def __post_init__(self) -> None:
        check_blur(self.kernel, self.sigma)
        for each in self.low or ():
            if len(each) != len(self):
                raise InputError(f"low must be for {len(self)} images, got draws for {len(each)}")

    def __len__(self) -> int:
        return len(self.views)

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        shape: Shape,
        *,
        kernel: int = 3,
        sigma: float = 0.5,
        plus: bool = False,
    ) -> HybridSingleDraws:
        """Operations, coins and directions as of APR-S; plus: with operations drawn anew for the two low parts."""
        check_choice("plus", plus, (False, True))
        batch, channels, height, width = shape
        views, first, second = (SingleDraws.sample(batch, height, width, generator) for _ in range(3))
        return cls(height, width, channels, views, kernel, sigma, (first, second) if plus else None)


def _lows(views: Any, draws: HybridSingleDraws) -> Any:
    """The low parts of views, float64 (2, N, 3, H, W), NumPy's or torch's, in steps of a level / 65536."""
    return (blur(views, draws.kernel, draws.sigma) * _GRID).round() / _GRID


def _rows(draws: SingleDraws, rows: NDArray[np.int64]) -> SingleDraws:
    return SingleDraws(*(getattr(draws, name)[rows] for name in draws.__dataclass_fields__))


def define(images: NDArray[np.uint8], draws: HybridSingleDraws) -> NDArray[np.float64]:
    """L(x_a) + x_b - L(x_b), a and b the two views; ++: APR-S of the first term, which is truncated to levels before.

    uint8 (N, H, W, 3) to real levels, float64 (N, 3, H, W). An image that is not mixed is its first view.
    """
    out = np.empty((len(images), 3, draws.height, draws.width))
    for n, image in enumerate(images):
        first, second = pillow_ops.two_views(image, draws.views, n)
        if second is None:
            out[n] = np.moveaxis(first, -1, 0)
            continue
        views = np.moveaxis(np.stack([first, second]), -1, 1).astype(np.float64)
        low = _lows(views, draws)
        high = views - low
        giver = int(draws.views.amplitude_of_second[n])
        out[n] = _augmented_low(low[giver], draws, giver, n) + high[1 - giver]
    return out


def _augmented_low(low: NDArray[np.float64], draws: HybridSingleDraws, view: int, n: int) -> NDArray[np.float64]:
    """++'s APR-S on the low part, (3, H, W), of one view of image n."""
    if draws.low is None:
        return low
    levels = np.moveaxis(low.astype(np.uint8), 0, -1)[None]
    single = pillow_ops.single(levels, _rows(draws.low[view], np.array([n])), "wrap")
    return np.moveaxis(single[0], -1, 0).astype(np.float64)


def torch_form(images: Tensor, draws: HybridSingleDraws) -> Tensor:
    """`define` in torch: uint8 (N, H, W, 3) to floating levels (N, 3, H, W)."""
    first, where, second, swap = torch_backend.two_views(images, draws.views)
    out = first.permute(0, 3, 1, 2).to(torch.float64)
    if not len(where):
        return out
    both = torch.stack([first[where], second]).permute(0, 1, 4, 2, 3).to(torch.float64)
    low = _lows(both, draws)
    high = both - low
    if draws.low is not None:
        chosen = np.flatnonzero(draws.views.mix)
        for view in range(2):
            levels = low[view].to(torch.uint8).permute(0, 2, 3, 1).contiguous()
            single = torch_backend.single(levels, _rows(draws.low[view], chosen), "wrap", "chw")
            low[view] = single.permute(0, 3, 1, 2)
    out[where] = torch.where(swap, low[1] + high[0], low[0] + high[1])
    return out


_augmentation = partial(
    Augmentation,
    paper='Yucel et al., "HybridAugment++: Unified Frequency Spectra Perturbations for Model Robustness", ICCV 2023',
    source="MKYucel/hybrid_augment: datasets/APR.py, datasets/transforms.py, main.py, imagenet.py",
    draws=HybridSingleDraws,
    define=define,
    torch_form=torch_form,
    takes="levels",
    overflow="wrap",
)


def _recipes(**settings: Any) -> tuple[Recipe, ...]:
    return tuple(
        Recipe(dataset, {"kernel": 3, "sigma": 0.5, **settings}) for dataset in ("cifar10", "cifar100", "imagenet")
    )


AUGMENTATIONS = (
    _augmentation(name="hybrid-s", equation="x' = LF(T_a(x)) + HF(T_b(x))", recipes=_recipes()),
    # imagenet.py multiplies kernel and sigma with its blur strength, 1 unless asked for.
    _augmentation(name="hybrid++-s", equation="x' = APR-S(LF(T_a(x))) + HF(T_b(x))", recipes=_recipes(plus=True)),
)
