"""The optimizer of the published recipes and its learning rate as a function of the position in training."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD

from apr_dali.training.options import TrainingOptions

_REFERENCE_BATCH = 256


def make_optimizer(model: nn.Module, options: TrainingOptions) -> SGD:
    """SGD over every parameter, batch norm's too, as published."""
    return SGD(
        model.parameters(),
        lr=options.lr,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        # Without momentum Nesterov's is the same, and torch refuses it.
        nesterov=options.nesterov and options.momentum > 0,
    )


def learning_rate(options: TrainingOptions, epoch: int, step: int, steps_per_epoch: int) -> float:
    """The learning rate of step `step` (from 0) of epoch `epoch` (from 0).

    lr · lr_factor^(how many of lr_steps are reached), times batch_size/256 if scale_lr; during the first
    warmup_epochs it rises in equal parts from step to step, so that the first step is not lost on a rate of 0.
    With options.cyclic it rises from 0 in equal parts over the first half of the run and falls over the second.
    """
    peak = options.lr * (options.batch_size / _REFERENCE_BATCH if options.scale_lr else 1.0)
    if options.cyclic:
        half = options.epochs * steps_per_epoch / 2
        return peak * (1 - abs(epoch * steps_per_epoch + step - half) / half)
    rate = peak * options.lr_factor ** sum(epoch >= milestone for milestone in options.lr_steps)
    rising = options.warmup_epochs * steps_per_epoch
    done = epoch * steps_per_epoch + step + 1
    return rate * min(1.0, done / rising) if rising else rate


def set_learning_rate(optimizer: SGD, rate: float) -> None:
    """Use `rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
