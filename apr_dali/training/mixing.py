"""MixUp and CutMix of batches, whatever the views of an image: the draws are data, the targets are timm's.

An image is mixed with another of its batch on its process, and so are their labels. APR-P comes before: its views have
their label from the phase, and an image that gave only its amplitude has no part in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from apr_dali.kernels.torch_copies import put

_SWITCH = 0.5
"""Share of batches that CutMix gets where both are asked for: timm's."""


@dataclass(frozen=True)
class MixDraws:
    """What is drawn for a batch of B images.

    partner: int64 (B,), a permutation: the image that each is mixed with. share: that of the image itself in the result
    and in its target, 0..1. box: (top, bottom, left, right) in pixels of what comes from the partner, CutMix; None for
    MixUp, which adds the two.
    """

    partner: Tensor
    share: float
    box: tuple[int, int, int, int] | None = None

    @classmethod
    def sample(cls, count: int, height: int, width: int, mixup: float, cutmix: float, seed: int) -> MixDraws:
        """The draws of `seed` for `count` images.

        mixup, cutmix: the α of Beta(α, α), from which λ comes, of MixUp (Zhang et al. 2018) and of CutMix (Yun et al.
        2019); 0 for none. Where both are asked for, a coin decides on the batch.
        """
        rng = np.random.default_rng(seed)
        cuts = cutmix > 0 and (mixup == 0 or rng.random() < _SWITCH)
        alpha = cutmix if cuts else mixup
        share = float(rng.beta(alpha, alpha))
        partner = torch.from_numpy(rng.permutation(count))
        if not cuts:
            return cls(partner, share)
        top, bottom, left, right = box = cut_box(
            height, width, share, int(rng.integers(height)), int(rng.integers(width))
        )
        # What lies outside the image is cut off: the target goes by what is left.
        return cls(partner, 1 - (bottom - top) * (right - left) / (height * width), box)


def cut_box(height: int, width: int, share: float, row: int, column: int) -> tuple[int, int, int, int]:
    """CutMix's box (top, bottom, left, right) around a pixel: sides of √(1 - share) of the image's, cut at its border.

    share: λ, 0..1, of the image that keeps the rest.
    """
    side = np.sqrt(1 - share)
    high, wide = int(height * side), int(width * side)
    edges = (row - high // 2, row + (high + 1) // 2, column - wide // 2, column + (wide + 1) // 2)
    limits = (height, height, width, width)
    top, bottom, left, right = (int(min(max(edge, 0), limit)) for edge, limit in zip(edges, limits, strict=True))
    return top, bottom, left, right


def mix(images: Tensor, draws: MixDraws, views: int = 1, mixed: int = 1) -> Tensor:
    """Images (V·B, C, H, W) with the first `mixed` of the V views of each mixed with those of its partner.

    images: floating, the views of an image side by side, `views` of each.
    """
    seen = images.unflatten(0, (-1, views))
    own, other = seen[:, :mixed], seen[put(draws.partner, images.device), :mixed]
    if draws.box is None:
        changed = draws.share * own + (1 - draws.share) * other
    else:
        top, bottom, left, right = draws.box
        changed = own.clone()
        changed[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    together = torch.cat([changed, seen[:, mixed:]], 1).flatten(0, 1)
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    return together.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def soft_targets(
    targets: Tensor, classes: int, smoothing: float = 0.0, draws: MixDraws | None = None, views: int = 1, mixed: int = 1
) -> Tensor:
    """Targets int64 (V·B,) as float32 (V·B, classes), smoothed and mixed as `mix` mixes the images.

    smoothing: share of a target that is spread evenly over all classes, its own among them, 0..1: as timm has it.
    """
    off = smoothing / classes
    soft = torch.where(F.one_hot(targets, classes).bool(), 1 - smoothing + off, off)
    if draws is None:
        return soft
    seen = soft.unflatten(0, (-1, views))
    own, other = seen[:, :mixed], seen[put(draws.partner, targets.device), :mixed]
    changed = draws.share * own + (1 - draws.share) * other
    return torch.cat([changed, seen[:, mixed:]], 1).flatten(0, 1)
