"""Losses and gradients that are not finite: how all processes see them alike, and how a step is left out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def spread(loss: Tensor) -> Tensor:
    """`loss`, whose gradients are all nan where it is not finite itself.

    The exchange of gradients then tells the other processes, whose losses may be sound; it costs no message of its own.
    """
    return loss * torch.where(loss.detach().isfinite(), 1.0, math.nan)


def sound_gradients(model: nn.Module) -> Tensor:
    """Whether every gradient is finite: a bool on the device, the same on all processes once they have exchanged."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients, math.inf).isfinite()


class Buffers:
    """The buffers of networks as they were: what a step that is left out must not leave in batch norm's statistics."""

    def __init__(self, *models: nn.Module) -> None:
        self._pairs = [(buffer, buffer.clone()) for model in models for buffer in model.buffers()]

    def put_back(self) -> None:
        """Undo what has happened to them since."""
        for buffer, before in self._pairs:
            buffer.copy_(before)
