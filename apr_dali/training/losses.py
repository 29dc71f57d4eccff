"""The losses of the methods on CIFAR, as objectives of `Trainer`."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr_dali.recipes import AprRecipe
from apr_dali.training.adversarial import Ball, fast_attack
from apr_dali.training.engine import Objective, view_loss
from apr_dali.training.options import CifarOptions

_JSD_WEIGHT = 12.0
_CUTMIX_SHARE = 0.5
"""Share of batches that CutMix changes: Yun et al. (2019) on CIFAR."""


def objective(
    options: CifarOptions, model: nn.Module, num_classes: int, recipe: AprRecipe, device: torch.device
) -> Objective | None:
    """The loss that the options ask for, None for the trainer's own, the sum of the views' mean cross-entropies.

    model: the bare network, for attacks: they must not touch the gradients that processes exchange.
    """
    smoothing = options.label_smoothing
    if options.adversarial != "none":
        ball = Ball(options.epsilon, recipe.mean, recipe.std, device)
        return partial(adversarial_loss, model, ball, options.step_of_attack, options.adversarial, smoothing)
    if options.phase_weight != 1:
        return lambda network, images, targets, views: two_head_loss(
            network(images), targets, views, options.phase_weight, smoothing
        )
    if options.aug in ("mixup", "cutmix"):
        return partial(mixed_loss, _mixer(options.aug, num_classes), smoothing)
    if options.aug == "augmix":
        return lambda network, images, targets, _: augmix_loss(network(images), targets, smoothing)
    return None


def _mixer(aug: str, num_classes: int) -> nn.Module:
    from torchvision.transforms import v2

    if aug == "mixup":
        return v2.MixUp(alpha=1.0, num_classes=num_classes)
    return v2.RandomApply([v2.CutMix(alpha=1.0, num_classes=num_classes)], p=_CUTMIX_SHARE)


def mixed_loss(
    mixer: nn.Module, smoothing: float, network: nn.Module, images: Tensor, targets: Tensor, views: int
) -> Tensor:
    """Cross-entropy of batches that torchvision's MixUp or CutMix mixed, with its soft targets (B, classes)."""
    images, targets = mixer(images, targets)
    return view_loss(network(images), targets, views, smoothing)


def augmix_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the first view + 12 × the Jensen-Shannon divergence of the three: AugMix, Hendrycks et al. 2020.

    logits: (3·B, classes), the views of an image side by side. targets: int64 (3·B,).
    """
    views = logits.unflatten(0, (-1, 3))
    probabilities = views.softmax(2)
    # The published guard against log 0.
    mixture = probabilities.mean(1, keepdim=True).clamp(1e-7, 1).log()
    divergence = F.kl_div(mixture.expand_as(views), probabilities, reduction="none").sum(2).mean()
    return F.cross_entropy(views[:, 0], targets[::3], label_smoothing=smoothing) + _JSD_WEIGHT * divergence


def two_head_loss(logits: Tensor, targets: Tensor, views: int, phase_weight: float, smoothing: float = 0.0) -> Tensor:
    """The paper's Eq. 7: λ·l(f_P, labels of the phase) + (1 − λ)·l(f_A, labels of the amplitude), λ = phase_weight.

    l is the published loss, so that the clean view counts too; there both labels are the image's own. Eq. 7 has the
    mixed view alone.

    logits: (views·B, 2, classes), of the two heads. targets: int64 (views·B, 2), the labels of phase and amplitude. B
    in place of views·B where a batch is not mixed and comes once.
    """
    phase, amplitude = (view_loss(logits[:, n], targets[:, n], views, smoothing) for n in (0, 1))
    return phase_weight * phase + (1 - phase_weight) * amplitude


def adversarial_loss(
    model: nn.Module,
    ball: Ball,
    alpha: float,
    kind: str,
    smoothing: float,
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    views: int,  # noqa: ARG001 - the signature of an objective
) -> Tensor:
    """Mean cross-entropy of the attacked views: the released adversarial training means over both, and adds nothing.

    Both views of an image that is not mixed are to be there: each is attacked from a random start of its own.
    """
    attacked = fast_attack(model, images, targets, ball, alpha, kind)
    return F.cross_entropy(network(attacked), targets, label_smoothing=smoothing)
