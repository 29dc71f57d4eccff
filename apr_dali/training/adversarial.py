"""Fast adversarial training: one-step attacks to train on, PGD to look whether they still teach anything.

Catastrophic overfitting of one-step attacks: within an epoch the network learns to stop the one step and falls to any
other attack, while clean accuracy and loss look better than before.

Attacks work on normalized images; `Ball` knows what ε and the range 0..1 are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr_dali.data.arrays import ArraySet
from apr_dali.pipelines.cifar_loader import CifarLoader
from apr_dali.recipes import AprRecipe
from apr_dali.runtime import checkpoint
from apr_dali.runtime.best_effort import say
from apr_dali.runtime.distributed import on_main
from apr_dali.training.engine import Trainer
from apr_dali.training.logger import Logger
from apr_dali.training.options import CifarOptions

_NOISE = 2.0
"""Radius of n-fgsm's noise in ε: what de Jorge et al. (2022) use at every ε."""
_PGD_STEPS, _PGD_ALPHA = 5, 2.0
"""Steps and their length in 255ths: the check of Wong et al. (2020)."""
DROP = 0.2
"""Fall of the accuracy under PGD from one epoch to the next that means catastrophic overfitting: Wong et al. (2020)."""


class Ball:
    """The L∞ ball of radius ε/255 round images in 0..1 that were normalized with `mean` and `std`, one per channel."""

    def __init__(
        self, epsilon: float, mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"
    ) -> None:
        """epsilon: in 255ths."""
        mean_, std_ = (torch.tensor(value, device=device).view(1, 3, 1, 1) for value in (mean, std))
        self.unit = 1 / (255 * std_)  # a 255th
        self.epsilon = epsilon * self.unit
        self._low, self._high = -mean_ / std_, (1 - mean_) / std_

    def into_range(self, images: Tensor) -> Tensor:
        """`images` with every value brought into 0..1 (before normalization)."""
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
        images: (N, 3, H, W), normalized. Values outside 0..1, which APR-P makes, are brought into it, as published.
        targets: int64 (N,).
        alpha: in 255ths.

    Returns:
        (N, 3, H, W), normalized, in 0..1, without gradient. With fgsm within ε of images that were in 0..1.
    """
    radius = ball.epsilon * (_NOISE if kind == "n-fgsm" else 1.0)
    start = ball.into_range(images + (2 * torch.rand_like(images) - 1) * radius)
    moved = start + alpha * ball.unit * _sign_of_gradient(model, start, targets)
    if kind == "fgsm":
        moved = images + ball.near(moved - images)
    return ball.into_range(moved)


def pgd_accuracy(model: nn.Module, images: Tensor, targets: Tensor, ball: Ball) -> float:
    """Share of `images` (N, 3, H, W), normalized, that are still right after five steps of PGD; 0..1.

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
    return float(right)  # synchronizes


def _sign_of_gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(images), targets), images)
    return gradient.sign()


GOOD = "good.pt"
"""The weights of the last epoch before a collapse."""
ROBUST = "pgd_top1"


class CatastrophicOverfitting:
    """Called with an epoch's row of results: adds the accuracy under PGD on one batch, which is the epoch's score.

    When it has fallen by more than DROP since the epoch before, it says so; with `stop` it puts the last good weights
    back and ends the run (`stopped`).
    """

    def __init__(
        self,
        trainer: Trainer,
        images: Tensor,
        targets: Tensor,
        ball: Ball,
        output: Path,
        logger: Logger,
        stop: bool,
    ) -> None:
        """images: (N, 3, H, W), normalized. logger: knows the epoch before, also in a run that continues."""
        device = trainer.group.device
        self._trainer, self._ball, self._output, self._logger = trainer, ball, output, logger
        self._images, self._targets = images.to(device), targets.to(device)
        self._stop = stop
        self.stopped = False

    def __call__(self, row: dict[str, float], _: nn.Module) -> float:
        group, position = self._trainer.group, self._trainer.position
        # What the look draws must not change what training draws after it.
        with torch.random.fork_rng(devices=[group.device] if group.device.type == "cuda" else []):
            torch.manual_seed(self._trainer.options.seed + position.epoch)
            found = pgd_accuracy(self._trainer.model, self._images, self._targets, self._ball)
        # One number for all processes, or some would stop and some not.
        accuracy, before = on_main(group, lambda: (found, self._before()))
        row[ROBUST] = accuracy
        if before is None or before - accuracy <= DROP:
            on_main(group, self._keep)
        else:
            self._collapsed(position.epoch + 1, before, accuracy)
        return accuracy

    def _before(self) -> float | None:
        """The accuracy of the epoch before, None in the first."""
        found = [row[ROBUST] for row in self._logger.rows if ROBUST in row]
        return found[-1] if found else None

    def _keep(self) -> None:
        weights = self._trainer.model.state_dict()
        checkpoint.write_of_run(self._output / GOOD, lambda file: torch.save(weights, file))

    def _collapsed(self, epoch: int, before: float, accuracy: float) -> None:
        trainer = self._trainer
        if trainer.group.main:
            say(
                f"warning: catastrophic overfitting in epoch {epoch}: the accuracy under PGD fell from {before:.1%} to "
                f"{accuracy:.1%}. Try --adversarial n-fgsm, a smaller --epsilon or --on-overfitting stop"
            )
        if not self._stop:
            return
        weights: dict[str, Any] = torch.load(self._output / GOOD, map_location="cpu", weights_only=True)
        trainer.model.load_state_dict(weights)
        # The epoch that ends now becomes the last.
        trainer.position.epoch = trainer.options.epochs - 1
        self.stopped = True
        if trainer.group.main:
            say(f"stopped after epoch {epoch}, with the weights of the epoch before")


def watch(
    trainer: Trainer, validated: ArraySet, recipe: AprRecipe, output: Path, logger: Logger
) -> CatastrophicOverfitting | None:
    """In adversarial training, what looks at the accuracy under attack after each epoch, on a batch of validation."""
    options = trainer.options
    assert isinstance(options, CifarOptions)
    if options.adversarial == "none":
        return None
    ball = Ball(options.epsilon, recipe.mean, recipe.std, trainer.group.device)
    count = min(options.batch_size, len(validated))
    part = ArraySet(validated.images[:count], validated.labels[:count], validated.classes)
    with CifarLoader(part, count, train=False, recipe=recipe, threads=1) as loader:
        images, targets = next(iter(loader))
    stop = options.on_overfitting == "stop"
    return CatastrophicOverfitting(trainer, images, targets, ball, output, logger, stop)
