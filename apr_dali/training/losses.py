"""The losses of both trainers, as objectives of `Trainer`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apr_dali.augmentations.plan import Plan
from apr_dali.models.auxiliary import routed
from apr_dali.recipes import AprRecipe
from apr_dali.training.adversarial import Ball, fast_attack
from apr_dali.training.engine import Objective, view_loss
from apr_dali.training.mixing import MixDraws, mix, soft_targets
from apr_dali.training.options import CifarOptions, TrainingOptions
from apr_dali.training.teacher import TaughtLoss

JSD_WEIGHT = 12.0
"""AugMix's."""
_CUTMIX_SHARE = 0.5
"""Share of batches that CutMix changes: Yun et al. (2019) on CIFAR."""


def objective(
    options: TrainingOptions, model: nn.Module, num_classes: int, recipe: AprRecipe, device: torch.device
) -> Objective | None:
    """The loss that the options ask for, None for the trainer's own, the sum of the views' mean cross-entropies.

    model: the bare network, for attacks: they must not touch the gradients that processes exchange.
    """
    of_method = _of_method(options, model, num_classes, recipe, device) if isinstance(options, CifarOptions) else None
    if of_method is not None:
        return of_method
    if options.aug_plan is not None and (of_plan := _of_plan(options.aug_plan, options)) is not None:
        return of_plan
    if options.mixes or options.jsd or options.loss != "cross-entropy":
        return BatchLoss(options, num_classes)
    return None


def _of_plan(plan: Plan, options: TrainingOptions) -> Objective | None:
    """The loss that an augmentation is published with, if it has one of its own."""
    smoothing = options.label_smoothing
    weight = plan.weights.get("jsd") if options.jsd is None else options.jsd
    if plan.objective == "auxiliary":
        return AuxiliaryLoss(plan.auxiliary, weight, smoothing)
    if plan.objective == "teacher":
        return TaughtLoss(plan.weights, smoothing)
    if plan.objective != "jsd":
        return None
    assert weight is not None
    return lambda network, images, targets, _, views: augmix_loss(network(images), targets, smoothing, weight, views)


def _of_method(
    options: CifarOptions, model: nn.Module, num_classes: int, recipe: AprRecipe, device: torch.device
) -> Objective | None:
    """The loss of a method that is trained on CIFAR alone, if the options name one."""
    smoothing = options.label_smoothing
    if options.adversarial != "none":
        ball = Ball(options.epsilon, recipe.mean, recipe.std, device)
        return partial(adversarial_loss, model, ball, options.step_of_attack, options.adversarial, smoothing)
    if options.phase_weight != 1:
        return lambda network, images, targets, views, _: two_head_loss(
            network(images), targets, views, options.phase_weight, smoothing
        )
    if options.aug in ("mixup", "cutmix"):
        return partial(mixed_loss, _mixer(options.aug, num_classes), smoothing)
    if options.aug == "augmix":
        weight = JSD_WEIGHT if options.jsd is None else options.jsd
        return lambda network, images, targets, *_: augmix_loss(network(images), targets, smoothing, weight)
    return None


@dataclass(frozen=True)
class BatchLoss:
    """The loss over a batch, whose images it first mixes if the options say so: an objective of `Trainer`.

    The sum over the views of their mean cross-entropies, or mean binary cross-entropies, and options.jsd times the
    divergence between the views. A batch whose views are one and the same may come once: that is the same number.
    """

    options: TrainingOptions
    classes: int

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, views: int, batch_views: int) -> Tensor:
        options, draws = self.options, None
        mixed = batch_views if options.mix_views == "both" else 1
        if options.mixes:
            # torch's generator is each process's own, and its state is in checkpoints.
            seed = int(torch.randint(2**63 - 1, ()))
            count, (height, width) = len(images) // batch_views, images.shape[2:]
            draws = MixDraws.sample(count, height, width, options.mixup, options.cutmix, seed)
            images = mix(images, draws, batch_views, mixed)
        logits = network(images).float()
        wanted = soft_targets(targets, self.classes, options.label_smoothing, draws, batch_views, mixed)
        if options.loss == "bce":
            loss = bce_loss(logits, wanted, options.bce_threshold)
        else:
            loss = F.cross_entropy(logits, wanted)
        if not options.jsd or batch_views == 1:
            return views * loss
        return views * loss + options.jsd * divergence(logits, batch_views)


def bce_loss(logits: Tensor, targets: Tensor, threshold: float | None = None) -> Tensor:
    """Mean over images and classes of the binary cross-entropy: that of RSB (Wightman et al. 2021), as in timm.

    logits, targets: floating (N, classes), targets in 0..1; with `threshold`, those above it are 1 and all others 0.
    """
    if threshold is not None:
        targets = targets.gt(threshold).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets)


def divergence(logits: Tensor, views: int) -> Tensor:
    """Mean over the images of the Jensen-Shannon divergence of their views, in nats: AugMix, Hendrycks et al. 2020.

    (1 / V) · Σ KL(p_v ‖ m), m the mean of the views' class probabilities p_v. PRIME (Modas et al. 2022) and AFA
    (Vaish et al. 2024) have the same.

    logits: floating (V·B, classes), the views of an image side by side, V = `views`. One view has none.
    """
    probabilities = logits.unflatten(0, (-1, views)).softmax(2)
    # The published guard against log 0.
    mixture = probabilities.mean(1, keepdim=True).clamp(1e-7, 1).log()
    return F.kl_div(mixture.expand_as(probabilities), probabilities, reduction="none").sum(2).mean()


def _mixer(aug: str, num_classes: int) -> nn.Module:
    from torchvision.transforms import v2

    if aug == "mixup":
        return v2.MixUp(alpha=1.0, num_classes=num_classes)
    return v2.RandomApply([v2.CutMix(alpha=1.0, num_classes=num_classes)], p=_CUTMIX_SHARE)


def mixed_loss(
    mixer: nn.Module,
    smoothing: float,
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    views: int,
    batch_views: int,  # noqa: ARG001 - the signature of an objective
) -> Tensor:
    """Cross-entropy of batches that torchvision's MixUp or CutMix mixed, with its soft targets (B, classes)."""
    images, targets = mixer(images, targets)
    return view_loss(network(images), targets, views, smoothing)


def augmix_loss(
    logits: Tensor, targets: Tensor, smoothing: float = 0.0, weight: float = JSD_WEIGHT, views: int = 3
) -> Tensor:
    """Cross-entropy of the first view + weight × the divergence of all: AugMix, Hendrycks et al. 2020; PRIME, RandConv.

    logits: (V·B, classes), the V = `views` views of an image side by side. targets: int64 (V·B,).
    """
    first = F.cross_entropy(logits[::views], targets[::views], label_smoothing=smoothing)
    return first + weight * divergence(logits, views)


@dataclass(frozen=True)
class AuxiliaryLoss:
    """The mean of the views' cross-entropies; or that of the first + jsd × the divergence of all. AFA's.

    Vaish et al. (CVPR 2024). Some views go through auxiliary batch norms, see `apr_dali.models.auxiliary`. The released
    code (nis-research/afa-augment, project/trainers/base_module.py: AdvModule, AdvJSDModule) takes each view as a batch
    of its own, with statistics of one view; here they go through the network together, and apart through batch norm.

    auxiliary: of each view, whether it goes through the auxiliary batch norms. jsd: None for the mean. smoothing: of
    labels.
    """

    auxiliary: tuple[bool, ...]
    jsd: float | None = None
    smoothing: float = 0.0

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor, views: int, batch_views: int) -> Tensor:
        if not views == batch_views == len(self.auxiliary):
            raise RuntimeError(f"the loss is of {len(self.auxiliary)} views, the batch has {batch_views} of {views}")
        if len(images) == views:
            # A single image, which batch norm refuses. Twice: the same mean.
            images, targets = torch.cat([images, images]), torch.cat([targets, targets])
        with routed(network, self.auxiliary):
            logits = network(torch.cat([images[view::views] for view in range(views)]))
        by_view, own = logits.float().unflatten(0, (views, -1)), targets[::views]
        first = F.cross_entropy(by_view[0], own, label_smoothing=self.smoothing)
        if self.jsd is not None:
            # The divergence is of three: without a visual augmentation the image itself is in its place.
            counted = (0, 0, 1) if views == 2 else (0, 1, 2)
            side_by_side = torch.stack([by_view[view] for view in counted], 1).flatten(0, 1)
            return first + self.jsd * divergence(side_by_side, len(counted))
        others = [F.cross_entropy(view, own, label_smoothing=self.smoothing) for view in by_view[1:]]
        return torch.stack([first, *others]).mean()


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
    batch_views: int,  # noqa: ARG001
) -> Tensor:
    """Mean cross-entropy of the attacked views: the released adversarial training means over both, and adds nothing.

    Both views of an image that is not mixed are to be there: each is attacked from a random start of its own.
    """
    attacked = fast_attack(model, images, targets, ball, alpha, kind)
    return F.cross_entropy(network(attacked), targets, label_smoothing=smoothing)
