"""What can be wrong with a network's outputs, looked at on one batch before hours of work start."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from apr_dali.errors import InputError


@torch.no_grad()
def check_outputs(model: nn.Module, images: Tensor, classes: int) -> None:
    """Raise InputError unless `model`, in eval mode, maps `images` to finite logits (N, classes).

    images: as the model takes them, on its device. Probabilities instead of logits are refused too: energies,
    temperatures and attacks mean nothing for them.
    """
    training = model.training
    logits = model.eval()(images)
    model.train(training)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (len(images), classes):
        raise InputError(
            f"the network must give logits of the shape {(len(images), classes)}, got {shape}: "
            f"it is no classifier, or was not trained on these {classes} classes"
        )
    broken = int((~logits.isfinite()).any(1).sum())
    if broken:
        raise InputError(
            f"the network's logits are nan or infinite for {broken} of the first {len(images)} images: "
            "its weights are broken, or 16-bit arithmetic is too coarse for it (--amp none)"
        )
    if are_probabilities(logits):
        raise InputError("the network gives probabilities: expected logits, so take off its last softmax")


def are_probabilities(logits: Tensor) -> bool:
    """Whether all rows of `logits` (N, classes) are in 0..1 and of sum 1."""
    values = logits.double()
    return bool(((values >= 0) & (values <= 1)).all() and (values.sum(1) - 1).abs().max() < 1e-3)
