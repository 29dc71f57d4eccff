"""PRIME: chains of three max-entropy primitives - a diffeomorphism, a color transform, a filter - mixed with the image.

Modas, Rade, Ortiz-Jiménez, Moosavi-Dezfooli and Frossard, "PRIME: A Few Primitives Can Boost Robustness to Common
Corruptions", ECCV 2022, section 3. amodas/PRIME-augmentations was read: utils/prime.py, utils/diffeomorphism.py,
utils/color_jitter.py, utils/rand_filter.py, lightning/systems/augmentation.py and config/.

The released code is for square images; for others each axis has its own side, and a diffeomorphism's temperature is
that for the width.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from apr_dali.augmentations.prime_draws import PrimeDraws
from apr_dali.augmentations.record import Augmentation, Recipe
from apr_dali.kernels.cpu.augmentations import NativeBatch
from apr_dali.kernels.protocol import KernelBatch
from apr_dali.kernels.torch_copies import put


def displacements(modes: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """How far each pixel's source lies to its left, and above it, in pixels: float64 (2, H, W) of modes (2, m, m)."""
    down, across = (
        np.sin(np.pi * np.linspace(0, 1, size)[:, None] * np.arange(1, modes.shape[-1] + 1)) for size in (height, width)
    )
    fields = np.einsum("dij,xi,yj->dyx", modes, across, down, optimize=True)
    return fields * np.array([width, height])[:, None, None]


def _diffeomorphism(image: NDArray[np.float64], draws: PrimeDraws, step: int) -> NDArray[np.float64]:
    height, width = image.shape[-2:]
    left, up = displacements(draws.modes[step], height, width)
    x = np.clip(np.arange(width) - left, 0, width - 1)
    y = np.clip(np.arange(height)[:, None] - up, 0, height - 1)
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    x1, y1, dx, dy = np.ceil(x).astype(int), np.ceil(y).astype(int), x - x0, y - y0
    upper = (1 - dx) * image[:, y0, x0] + dx * image[:, y0, x1]
    lower = (1 - dx) * image[:, y1, x0] + dx * image[:, y1, x1]
    return (1 - dy) * upper + dy * lower


def _color(image: NDArray[np.float64], coefficients: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    out = image.copy()
    for index in range(coefficients.shape[-1]):
        out += coefficients[:, index, None, None] * np.sin(np.pi * (first + index) * image)
    return np.clip(out, 0, 1)


def _filter(image: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)))
    height, width = image.shape[-2:]
    out = sum(kernel[row, column] * padded[:, row : row + height, column : column + width] for row, column in _TAPS)
    return np.clip(out, 0, 1)


_TAPS = tuple(np.ndindex(3, 3))


def define(images: NDArray[np.float64], draws: PrimeDraws) -> NDArray[np.float64]:
    """(1 - m)·x + m·Σ w_i·(T_{i,d} ∘ … ∘ T_{i,1})(x), float64 (N, C, H, W) in 0..1 to the same."""
    out = np.empty_like(images)
    for n, image in enumerate(images):
        out[n] = (1 - draws.mixture[n]) * image
        for chain, weight in enumerate(draws.weight[n]):
            x = image
            for step in range(draws.depth[n, chain]):
                primitive = draws.operation[step, n, chain]
                if primitive == 0:
                    x = _diffeomorphism(x, draws, step)
                elif primitive == 1:
                    x = _color(x, draws.color[step][n, chain], int(draws.frequency[step]))
                else:
                    x = _filter(x, draws.kernel[step, n, chain])
            out[n] += draws.mixture[n] * weight * x
    return out


def torch_form(images: Tensor, draws: PrimeDraws) -> Tensor:
    """`define` in torch: floating (N, C, H, W) in 0..1 to the same. The images of one primitive are done together."""
    chains = draws.weight.shape[1]
    x = images.repeat_interleave(chains, dim=0)
    depth = draws.depth.reshape(-1)
    for step, operation in enumerate(draws.operation):
        for primitive, function in enumerate((_displace, _recolor, _convolve)):
            chosen = np.flatnonzero((operation.reshape(-1) == primitive) & (depth > step))
            if len(chosen):
                rows = put(chosen, x.device)
                x[rows] = function(x[rows], draws, step, chosen)
    weight, mixture = (put(array, x.device, x.dtype) for array in (draws.weight, draws.mixture))
    mixed = torch.einsum("nm,nmchw->nchw", weight, x.view(len(images), chains, *images.shape[1:]))
    return torch.lerp(images, mixed, mixture[:, None, None, None])


def _displace(images: Tensor, draws: PrimeDraws, step: int, chosen: NDArray[np.int64]) -> Tensor:  # noqa: ARG001
    height, width = images.shape[-2:]
    left, up = put(displacements(draws.modes[step], height, width), images.device)
    x = (torch.arange(width, device=images.device) - left).clamp_(0, width - 1)
    y = (torch.arange(height, device=images.device)[:, None] - up).clamp_(0, height - 1)
    x0, y0 = x.floor().long(), y.floor().long()
    x1, y1 = x.ceil().long(), y.ceil().long()
    dx, dy = (x - x0).to(images.dtype), (y - y0).to(images.dtype)
    flat = images.flatten(-2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat[..., (row * width + column).flatten()].view(images.shape)

    upper, lower = torch.lerp(at(y0, x0), at(y0, x1), dx), torch.lerp(at(y1, x0), at(y1, x1), dx)
    return torch.lerp(upper, lower, dy)


def _recolor(images: Tensor, draws: PrimeDraws, step: int, chosen: NDArray[np.int64]) -> Tensor:
    color = draws.color[step].reshape(-1, *draws.color[step].shape[2:])[chosen]
    coefficients = put(color, images.device, images.dtype)[..., None, None]
    out = images.clone()
    for index in range(coefficients.shape[2]):
        out.addcmul_(coefficients[:, :, index], torch.sin(np.pi * (int(draws.frequency[step]) + index) * images))
    return out.clamp_(0, 1)


def _convolve(images: Tensor, draws: PrimeDraws, step: int, chosen: NDArray[np.int64]) -> Tensor:
    kernels = put(draws.kernel[step].reshape(-1, 1, 3, 3)[chosen], images.device, images.dtype)
    out = F.conv2d(images.transpose(0, 1), kernels, padding=1, groups=len(images))
    return out.transpose(0, 1).clamp(0, 1)


def native_form(batch: NativeBatch, draws: PrimeDraws) -> NDArray[Any]:
    """`define` in C++."""
    moved = np.array([displacements(modes, draws.height, draws.width) for modes in draws.modes])
    return batch.run("prime", *_chains(draws), moved, draws.color, draws.frequency, draws.kernel)


def cuda_form(batch: KernelBatch, draws: PrimeDraws) -> Any:
    """`define` on a CUDA device."""
    return batch.run("prime", *_chains(draws), draws.modes, draws.color, draws.frequency, draws.kernel)


def _chains(draws: PrimeDraws) -> tuple[NDArray[Any], ...]:
    return draws.mixture, draws.weight, draws.depth, draws.operation


def _recipe(dataset: str, views: int, **settings: Any) -> Recipe:
    jsd = {"jsd": 12.0}
    return Recipe(dataset, settings, views, "jsd" if views > 1 else "cross-entropy", jsd if views > 1 else {})


_small = partial(_recipe, cuts=(2, 100), color_cut=100, color_variance=0.01, bandwidth=None, sigma=4.0)
_large = partial(_recipe, cuts=(2, 500), color_cut=500, color_variance=0.05, bandwidth=20, sigma=4.0)

AUGMENTATIONS = (
    Augmentation(
        name="prime",
        paper='Modas et al., "PRIME: A Few Primitives Can Boost Robustness to Common Corruptions", ECCV 2022',
        equation="x' = (1 - m)·x + m·Σ_i w_i·(T_{i,d} ∘ … ∘ T_{i,1})(x), w ~ Dirichlet(1), m ~ Beta(1, 1); T a "
        "diffeomorphism, a color transform x + Σ_k a_k·sin(πkx), or a filter of 3 × 3",
        source="amodas/PRIME-augmentations: utils/prime.py, utils/diffeomorphism.py, utils/color_jitter.py, "
        "utils/rand_filter.py, lightning/systems/augmentation.py, config/",
        draws=PrimeDraws,
        define=define,
        torch_form=torch_form,
        native_form=native_form,
        cuda_form=cuda_form,
        recipes=(
            _small("cifar10", 3),
            _small("cifar100", 3),
            # The released configuration has one view; the paper reports three as well.
            _large("imagenet", 1),
            _large("imagenet-jsd", 3),
        ),
        unit=True,
    ),
)
