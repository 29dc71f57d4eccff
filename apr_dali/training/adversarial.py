"""Fast adversarial training: one-step attacks to train on, PGD to look whether they still teach anything.

Attacks work on normalised images; `Ball` knows what ε and the range 0..1 are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_NOISE = 2.0
"""Radius of n-fgsm's noise in ε: what de Jorge et al. (2022) use at every ε."""
_PGD_STEPS, _PGD_ALPHA = 5, 2.0
"""Steps and their length in 255ths: the check of Wong et al. (2020)."""
DROP = 0.2
"""Fall of the accuracy under PGD from one epoch to the next that means catastrophic overfitting: Wong et al. (2020)."""


class Ball:
    """The L∞ ball of radius ε/255 round images in 0..1 that were normalised with `mean` and `std`, one a channel."""

    def __init__(
        self, epsilon: float, mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"
    ) -> None:
        """epsilon: in 255ths."""
        mean_, std_ = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in (mean, std))
        self.unit = 1 / (255 * std_)  # a 255th
        self.epsilon = epsilon * self.unit
        self._low, self._high = -mean_ / std_, (1 - mean_) / std_

    def into_range(self, images: Tensor) -> Tensor:
        """`images` with every value brought into 0..1 (before normalisation)."""
        return torch.clamp(images, self._low, self._high)

    def near(self, delta: Tensor) -> Tensor:
        """`delta` with every value brought into -ε..ε."""
        return torch.clamp(delta, -self.epsilon, self.epsilon)


def fast_attack(model: nn.Module, images: Tensor, targets: Tensor, ball: Ball, alpha: float, kind: str) -> Tensor:
    """Images to train on, from one gradient at a random start.

    "fgsm" (Wong et al. 2020): start in the ball, a step of α, back into the ball. "n-fgsm" (de Jorge et al. 2022):
    start in a ball of twice the radius, a step of α, and no way back: the noise stays in the image.

    Args:
        model: in the mode in which it trains; its parameters get no gradient.
        images: (N, 3, H, W), normalised. Values outside 0..1, which APR-P makes, are brought into it, as published.
        targets: int64 (N,).
        alpha: in 255ths.

    Returns:
        (N, 3, H, W), normalised, in 0..1, without gradient. With fgsm within ε of images that were in 0..1.
    """
    radius = ball.epsilon * (_NOISE if kind == "n-fgsm" else 1.0)
    start = ball.into_range(images + (2 * torch.rand_like(images) - 1) * radius)
    moved = start + alpha * ball.unit * _sign_of_gradient(model, start, targets)
    if kind == "fgsm":
        moved = images + ball.near(moved - images)
    return ball.into_range(moved)


def pgd_accuracy(model: nn.Module, images: Tensor, targets: Tensor, ball: Ball) -> float:
    """Share of `images` (N, 3, H, W), normalised, that are still right after five steps of PGD; 0..1.

    The model is attacked in eval mode and left in the mode it was in. Draws from torch's global generator.
    """
    training = model.training
    model.eval()
    attacked = ball.into_range(images + (2 * torch.rand_like(images) - 1) * ball.epsilon)
    for _ in range(_PGD_STEPS):
        step = _PGD_ALPHA * ball.unit * _sign_of_gradient(model, attacked, targets)
        attacked = ball.into_range(images + ball.near(attacked + step - images))
    with torch.no_grad():
        right = (model(attacked).argmax(1) == targets).float().mean()
    model.train(training)
    return float(right)  # synchronises


def _sign_of_gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(images), targets), images)
    return gradient.sign()
