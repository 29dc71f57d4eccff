"""RandConv: a random convolution in front of the network, which keeps shapes and takes textures away.

Xu, Liu, Yang, Raffel and Niethammer, "Robust and Generalizable Visual Representation Learning via Random Convolutions",
ICLR 2021. wildphoton/RandConv was read: lib/networks/rand_conv.py, randconv_trainer.py,
train_digits.py and exp_mnist10k.sh.

One kernel for the batch. Each of the three views that are compared is made of the image itself, as the paper has it;
the released trainer makes the second and the third of the first, which is convolved already. It convolves normalized
images; `mean` and `std` let images in 0..1 be normalized for it and back, so that the border is the mean color.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.augmentations.record import Augmentation, Draws, Recipe, Shape
from apr_dali.errors import InputError, check_choice, check_share, check_whole
from apr_dali.kernels.torch_copies import put


@dataclass(frozen=True, eq=False)
class RandConvDraws(Draws):
    """batch: N. kernel: float64 (C, C, k, k), to and from channels, k odd; None leaves the batch. share: of the
    convolved image in the result, 0..1. mean, std: float64 (C,), of the normalization around the convolution.
    """

    batch: int
    kernel: NDArray[np.float64] | None
    share: float
    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def __post_init__(self) -> None:
        check_share("share", self.share)
        self.check_shapes(mean=(self.channels,), std=(self.channels,))
        if self.std.min() <= 0:
            raise InputError(f"std must be positive, got {self.std}")
        if self.kernel is not None:
            side = self.kernel.shape[-1]
            self.check_shapes(kernel=(self.channels, self.channels, side, side))
            if side % 2 == 0:
                raise InputError(f"the sides of kernel must be odd, got {side}")

    def __len__(self) -> int:
        return self.batch

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        shape: Shape,
        *,
        p: float = 0.5,
        sizes: Sequence[int] = (1, 3, 5, 7),
        mixing: bool = False,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        coin: Sequence[float] | None = None,
    ) -> RandConvDraws:
        """With the share `p` of batches a convolution: k one of `sizes`, weights normal with variance 1 / (k²·C), as
        Kaiming has it for a linear layer; mixing: with the image itself, by a share uniform in 0..1. coin: in place of
        the generator's, see `Augmentation.coin`."""
        check_share("p", p)
        check_choice("mixing", mixing, (False, True))
        _check_sizes(sizes)
        batch, channels, height, width = shape
        normalization = _each("mean", mean, channels), _each("std", std, channels)
        kernel = None
        convolved, size = generator.random() < p, int(generator.choice(np.asarray(sizes)))
        share = float(generator.random()) if mixing else 1.0
        if coin is not None:
            convolved = coin[0] < p
        if convolved:
            kernel = generator.normal(0, 1 / math.sqrt(size * size * channels), (channels, channels, size, size))
        return cls(height, width, channels, batch, kernel, share, *normalization)


def _check_sizes(sizes: Any) -> None:
    if not isinstance(sizes, (Sequence, np.ndarray)) or len(sizes) == 0:
        raise InputError(f"sizes must be a list of odd numbers, such as (1, 3, 5, 7), got {sizes!r}")
    for size in sizes:
        check_whole("a size", size, 1)
        if size % 2 == 0:
            raise InputError(f"sizes must be odd, got {size}")


def _each(name: str, value: float | Sequence[float], channels: int) -> NDArray[np.float64]:
    """One number for each channel; the mean of three for another number of channels, as for gray images."""
    try:
        values = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.shape not in ((), (channels,), (3,)) or not np.isfinite(values).all():
        raise InputError(f"{name} must be a number, or one for each of {channels} channels, got {value!r}")
    if values.shape not in ((), (channels,)):
        values = values.mean()
    return np.full(channels, values)


def define(images: NDArray[np.float64], draws: RandConvDraws) -> NDArray[np.float64]:
    """(1 - α)·x + α·(w * x), zeros around x, * a correlation as in convolutional layers; float64 (N, C, H, W)."""
    if draws.kernel is None:
        return images
    mean, std = draws.mean[:, None, None], draws.std[:, None, None]
    x = (images - mean) / std
    reach = draws.kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    out = np.zeros_like(x)
    for row, column in np.ndindex(draws.kernel.shape[2:]):
        shifted = padded[..., row : row + draws.height, column : column + draws.width]
        out += np.einsum("oc,nchw->nohw", draws.kernel[..., row, column], shifted)
    return ((1 - draws.share) * x + draws.share * out) * std + mean


def torch_form(images: Tensor, draws: RandConvDraws) -> Tensor:
    """`define` in torch: floating (N, C, H, W) to the same."""
    if draws.kernel is None:
        return images.clone()
    kernel, mean, std = (
        put(array, images.device, images.dtype)
        for array in (draws.kernel, draws.mean[:, None, None], draws.std[:, None, None])
    )
    x = (images - mean) / std
    return torch.lerp(x, F.conv2d(x, kernel, padding="same"), draws.share) * std + mean


AUGMENTATIONS = (
    Augmentation(
        name="randconv",
        paper='Xu et al., "Robust and Generalizable Visual Representation Learning via Random Convolutions", ICLR 2021',
        equation="x' = (1 - α)·x + α·(w * x), w ~ N(0, 1 / (k²·C)), k of {1, 3, 5, 7}; α = 1, or ~ U(0, 1) when mixing",
        source="wildphoton/RandConv: lib/networks/rand_conv.py, randconv_trainer.py, train_digits.py, exp_mnist10k.sh",
        draws=RandConvDraws,
        coin=True,
        define=define,
        torch_form=torch_form,
        # All three views are convolved, each by its own draws.
        recipes=(
            Recipe(
                "digits",
                {"p": 0.5, "sizes": (1, 3, 5, 7), "mean": 0.5, "std": 0.5},
                views=3,
                objective="jsd",
                weights={"jsd": 5.0},
                clean=False,
            ),
            Recipe(
                "digits-mixed",
                {"p": 1.0, "sizes": (1, 3, 5, 7), "mixing": True, "mean": 0.5, "std": 0.5},
                views=3,
                objective="jsd",
                weights={"jsd": 10.0},
                clean=False,
            ),
        ),
    ),
)
