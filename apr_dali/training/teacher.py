"""FACT's objective: what a network says of an image is held to what its slow average says of the image's other view.

Xu et al., "A Fourier-based Framework for Domain Generalization", CVPR 2021, section 3.3 (co-teacher regularization).
MediaBrain-SJTU/FACT was read: train.py (the loss), utils/tools.py (teacher and warm-up), config/PACS/ResNet50.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from apr_dali.errors import InputError
from apr_dali.training import wrap


class Teacher:
    """A copy of the network whose parameters t follow the network's w: after step n, t ← m · t + (1 − m) · w.

    m is the least of 1 - 1 / (n + 1) and the momentum. Statistics of batch norm are its own, of the batches that it
    sees; it stays in training mode, as released.
    """

    def __init__(self, model: nn.Module, momentum: float, compile_mode: str = "none") -> None:
        """model: on its device. momentum: between 0 and 1. compile_mode: see `wrap.compiled`."""
        self._momentum, self._steps = momentum, 0
        self.model: nn.Module = copy.deepcopy(model).train().requires_grad_(False)
        self._network = wrap.compiled(self.model, compile_mode)

    def __call__(self, images: Tensor) -> Tensor:
        """Its logits of floating images (N, C, H, W), without gradient."""
        with torch.no_grad():
            logits: Tensor = self._network(images)
        return logits

    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        momentum = min(1 - 1 / (self._steps + 1), self._momentum)
        get_ema_multi_avg_fn(momentum)(list(self.model.parameters()), list(model.parameters()), self._steps)

    def state_dict(self) -> dict[str, Any]:
        """Its weights and statistics, and how many steps it has taken in."""
        return {"steps": self._steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; InputError if it is of another network."""
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as error:
            raise InputError(f"the teacher of the checkpoint is of another network: {error}") from error
        self._steps = int(state["steps"])


class TaughtLoss:
    """The mean cross-entropy of both views + λ · (KL(t_clean ‖ p_changed) + KL(t_changed ‖ p_clean)): an objective.

    p and t are class probabilities of the network and of its teacher at a temperature T; λ rises over the first epochs,
    see `rising`. The trainer calls `begin` before the first step.
    """

    def __init__(self, weights: Mapping[str, float], smoothing: float = 0.0) -> None:
        """weights: consistency (λ at its end), temperature, warmup_epochs, teacher_momentum. smoothing: of labels."""
        self._weights, self._smoothing = weights, smoothing
        self._teacher: Teacher | None = None
        self._epoch: Callable[[], int] = lambda: 0

    def begin(self, model: nn.Module, epoch: Callable[[], int], compile_mode: str = "none") -> Teacher:
        """The teacher of a network that is on its device; epoch: gives the number of the current one, from 0."""
        self._teacher, self._epoch = Teacher(model, self._weights["teacher_momentum"], compile_mode), epoch
        return self._teacher

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, views: int, batch_views: int) -> Tensor:
        if self._teacher is None or batch_views != views:
            raise RuntimeError("the loss with a teacher needs its `begin`, and every batch in both views")
        logits = network(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self._smoothing)
        weight = self._weights["consistency"] * rising(self._epoch(), self._weights["warmup_epochs"])
        taught = self._teacher(images).float()
        return loss + weight * consistency(logits, taught, self._weights["temperature"])


def consistency(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """KL(t_0 ‖ p_1) + KL(t_1 ‖ p_0), each the mean over the images, in nats; p and t are softmax(logits / temperature).

    logits, taught: floating (2·B, classes), of the network and of its teacher, the two views of an image side by side.
    """
    own, theirs = ((rows / temperature).log_softmax(1).unflatten(0, (-1, 2)) for rows in (logits, taught))
    # Each view against the other one's.
    return F.kl_div(own, theirs.flip(1), reduction="none", log_target=True).sum(2).mean(0).sum()


def rising(epoch: int, epochs: float) -> float:
    """exp(-5 · (1 - epoch / epochs)²) up to 1: Laine and Aila (ICLR 2017), counted in whole epochs from 0."""
    if epoch >= epochs:
        return 1.0
    return math.exp(-5 * (1 - epoch / epochs) ** 2)
