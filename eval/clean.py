"""Accuracy on clean images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class CleanResult:
    """images: how many; loss: mean cross-entropy; top1, top5: share of images, 0..1. Means over no image are nan."""

    images: int
    loss: float
    top1: float
    top5: float


def correct_within(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Whether each target is among the `k` greatest logits: bool (N,).

    Args:
        logits: floating (N, classes). Of equal logits the lower class number ranks first, as argmax has it. A row
            with nan counts as wrong: a network that has diverged must not look good.
        targets: int64 (N,), 0..classes-1.
        k: at least 1; with k >= classes every row without nan is right.
    """
    own = logits.gather(1, targets[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(1)
    return (rank < k) & ~logits.isnan().any(1)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    device: torch.device | str,
    amp: torch.dtype | None = None,
    seen: Callable[[Tensor, Tensor], None] | None = None,
) -> CleanResult:
    """Top-1 and top-5 (top-k with k = classes where there are fewer than five) over all `batches`.

    Where torch.distributed runs, every process gives its own part of the images, in any number of batches, and
    all get the result over all of them; `model` must then be the bare network, not its DDP wrapper.

    Args:
        model: maps images to logits (N, classes). It is evaluated in eval mode and left in the mode it was in.
        batches: (images, targets), images (N, C, H, W) as the model takes them, targets int64 (N,).
        device: where the model is; batches are moved there.
        amp: autocast to this type, None for none.
        seen: is called with the logits, float32 (N, classes), and the targets of each batch, on the device.
    """
    training = model.training
    model.eval()
    device = torch.device(device)
    # float64 adds counts and losses without rounding that depends on how the images are split.
    sums = torch.zeros(4, dtype=torch.float64, device=device)
    for images, targets in batches:
        with torch.autocast(device.type, amp or torch.bfloat16, enabled=amp is not None):
            logits = model(images.to(device, non_blocking=True))
        found, placed = logits.float(), targets.to(device, non_blocking=True)
        sums += _sums(found, placed)
        if seen is not None:
            seen(found, placed)
    model.train(training)
    sums = sums.cpu()  # synchronizes
    if dist.is_initialized():
        dist.all_reduce(sums)
    count, loss, top1, top5 = sums.tolist()
    mean = [value / count if count else float("nan") for value in (loss, top1, top5)]
    return CleanResult(int(count), *mean)


def _sums(logits: Tensor, targets: Tensor) -> Tensor:
    """float64 (4,): images, summed loss, right at first, right within five."""
    loss = F.cross_entropy(logits, targets, reduction="none").double().sum()
    top1, top5 = (correct_within(logits, targets, k).sum() for k in (1, 5))
    return torch.stack([torch.full_like(loss, len(targets)), loss, top1.double(), top5.double()])
