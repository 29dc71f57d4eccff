"""The learning rate as a function of the position in training."""

from __future__ import annotations

import math

from torch.optim import Optimizer

from apr_dali.training.options import TrainingOptions


def learning_rate(options: TrainingOptions, epoch: int, step: int, steps_per_epoch: int) -> float:
    """The learning rate with which batch `step` (from 0) of epoch `epoch` (from 0) moves the weights.

    It is a function of the updates before, t, of U in an epoch, --accumulate batches each and the rest of an epoch one
    more. In the first warmup_epochs · U updates, W, it rises in equal parts to the peak, --lr, times images of an
    update / 256 if scale_lr: (t + 1) / W of it, so that the first update is not lost on a rate of 0, or from warmup_lr
    on, as timm and torch's LinearLR have it. Then:

    step: peak · lr_factor^(how many of lr_steps are reached), which the warm-up rises to too.
    cosine: half a period from the peak down to min_lr, over the updates that the warm-up left: Loshchilov and Hutter
    (2017) without restarts, torch's CosineAnnealingLR by update.
    linear: in equal parts instead.
    cyclic: from 0 in equal parts over the first half of the run, and back over the second.
    """
    updates = math.ceil(steps_per_epoch / options.accumulate)
    done, total = epoch * updates + step // options.accumulate, options.epochs * updates
    warming = options.warmup_epochs * updates
    peak = options.peak_lr
    if options.chosen_schedule == "cyclic":
        return peak * (1 - abs(done - total / 2) / (total / 2))
    if options.chosen_schedule == "step":
        reached = peak * options.lr_factor ** sum(epoch >= milestone for milestone in options.lr_steps)
        return _warmed(options, reached, done, warming)
    if done < warming:
        return _warmed(options, peak, done, warming)
    share = (done - warming) / (total - warming)
    left = 1 - share if options.chosen_schedule == "linear" else (1 + math.cos(math.pi * share)) / 2
    return options.min_lr + (peak - options.min_lr) * left


def _warmed(options: TrainingOptions, rate: float, done: int, warming: float) -> float:
    """`rate`, or what the warm-up of `warming` updates makes of it after `done` of them."""
    if not warming:
        return rate
    if options.warmup_lr is None:
        return rate * min(1.0, (done + 1) / warming)
    return options.warmup_lr + (rate - options.warmup_lr) * min(1.0, done / warming)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use `rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
