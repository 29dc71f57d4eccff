"""Scores of logits, features and gradients that tell in-distribution images from others.

A score is higher for an image that looks more like the training set. Their names and parameters are in
`apr_dali.eval.ood_kinds`. ODIN, ReAct, ASH and SCALE are pytorch-ood's. Others that are fitted to many images are
defined here, on features that are read in parts; so is GEN, because pytorch-ood clamps probabilities at 1e-7, which
changes the order of sure images.

Each is made for several choices of its parameters at once, as a search needs it: what they share is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from apr_dali.errors import InputError
from apr_dali.eval import ood
from apr_dali.eval.head import Head
from apr_dali.eval.ood_fits import Fit, Fits, directions_of, precision_of
from apr_dali.eval.ood_kinds import KINDS, Parameters, detectors
from apr_dali.eval.outputs import Batch, Function, features_of

_KNN_BLOCK = 4096  # of fitted features that are compared at once

Choices = Sequence[Parameters]
Scorer = Callable[[Tensor], Tensor]
"""Of features float32 (N, D): (N, choices)."""


@dataclass(frozen=True)
class Makings:
    """What scores are made of.

    model: gives the logits, for gradients. std: that its images were divided by. head: its last layer, for scores of
    features. fits: the images for those that are fitted.
    """

    model: nn.Module
    std: Sequence[float]
    head: Head | None = None
    fits: Fits = field(default_factory=Fits)


def score_functions(makings: Makings, parameters: Mapping[str, Parameters]) -> dict[str, Function]:
    """A function (N,) of a batch for each score that `parameters` has, which `checked_scores` gave.

    Raises InputError where the fitted images are too few.
    """
    return {name: _only(columns_of(makings, name, [chosen])) for name, chosen in parameters.items()}


def columns_of(makings: Makings, name: str, choices: Choices) -> Function:
    """The score `name` of a batch with each of `choices`: (N, choices)."""
    if KINDS[name].features:
        scorer = scorer_of(makings, name, choices)
        return lambda batch: scorer(features_of(batch))
    if name == "odin":
        return _odin(makings, choices)
    scores = [ood.SCORES[name]] if name in ood.SCORES else [_gen(chosen) for chosen in choices]
    return lambda batch: torch.stack([score(batch.logits) for score in scores], 1)


def scorer_of(makings: Makings, name: str, choices: Choices) -> Scorer:
    """The score `name`, of features alone, with each of `choices`."""
    assert makings.head is not None
    return _OF_FEATURES[name](makings.head, makings.fits, choices)


def _only(columns: Function) -> Function:
    return lambda batch: columns(batch)[:, 0]


# ---- of logits and gradients ----------------------------------------------------------------------------------------


def generalized_entropy(logits: Tensor, power: float, top: int) -> Tensor:
    """GEN, float64 (N,): minus the sum of pᵞ(1 − p)ᵞ over the `top` greatest probabilities p (Liu et al., 2023, Eq. 2).

    Args:
        logits: floating (N, classes). power: γ.
    """
    log = logits.double().log_softmax(1)
    found = log.topk(min(top, log.shape[1]), 1).values.exp()
    return -(found**power * (1 - found).clamp(min=0) ** power).sum(1)


def _gen(chosen: Parameters) -> Callable[[Tensor], Tensor]:
    return lambda logits: generalized_entropy(logits, chosen["power"], int(chosen["top"]))


def _odin(makings: Makings, choices: Choices) -> Function:
    preprocessed, model = detectors().odin_preprocessing, makings.model
    std = [float(value) for value in makings.std]

    def score(images: Tensor, chosen: Parameters) -> Tensor:
        temperature = chosen["temperature"]
        moved = preprocessed(model, images, eps=chosen["step"], temperature=temperature, norm_std=std)
        return ood.max_softmax(model(moved).double() / temperature)

    def columns(batch: Batch) -> Tensor:
        # In float32 whatever the network runs in: gradients of 16 bits vanish at this temperature.
        with torch.autocast(batch.images.device.type, enabled=False):
            images = batch.images.float()
            return torch.stack([score(images, chosen) for chosen in choices], 1)

    return columns


# ---- of features -----------------------------------------------------------------------------------------------------


def _minus_energy(logits: Tensor) -> Tensor:
    return -ood.energy(logits)


def _shaped(head: Head, name: str, every: Sequence[Mapping[str, object]]) -> Scorer:
    """The energy after pytorch-ood's detector NAME, with each of its options, has changed the features."""

    def logits(maps: Tensor) -> Tensor:
        return head.logits(maps.flatten(1))

    detector = getattr(detectors(), name)
    made = [detector(None, logits, detector=_minus_energy, **options) for options in every]
    return lambda features: torch.stack([-one.predict_feature_maps(features[:, :, None, None]) for one in made], 1)


def _react(head: Head, fits: Fits, choices: Choices) -> Scorer:
    fit = fits.validation or _training(fits)
    return _shaped(head, "ReAct", [{"threshold": fit.percentile(share)} for share in _shares(choices)])


def _ash(head: Head, _: Fits, choices: Choices) -> Scorer:
    return _shaped(head, "ASH", [{"variant": "ash-b", "percentile": share} for share in _shares(choices)])


def _scale(head: Head, _: Fits, choices: Choices) -> Scorer:
    return _shaped(head, "SCALE", [{"percentile": share} for share in _shares(choices)])


def _shares(choices: Choices) -> list[float]:
    return [chosen["percentile"] / 100 for chosen in choices]


def _dice(head: Head, fits: Fits, choices: Choices) -> Scorer:
    """The energy with the weights left out that add least to the logits in the mean (Sun and Li, 2022, section 3)."""
    added = _training(fits).mean().to(head.weight) * head.weight
    # NumPy's: torch.quantile takes no more than 16 million values.
    limits = np.percentile(added.cpu().numpy(), [chosen["percentile"] for chosen in choices])
    weights = [head.weight * (added > float(limit)) for limit in limits]
    return lambda features: torch.stack(
        [ood.energy(nn.functional.linear(features, weight, head.bias)) for weight in weights], 1
    )


def _vim(head: Head, fits: Fits, choices: Choices) -> Scorer:
    """The energy less a virtual logit (Wang et al., 2022, section 4.3).

    That is the norm of what features have beyond their principal space, in units in which its mean is that of the
    greatest logits of the fitted images. The origin is where all logits are least apart, −W⁺b.
    """
    fit = _training(fits)
    weight, bias = head.weight.double(), head.bias.double()
    origin = -(torch.linalg.pinv(weight) @ bias)
    sizes = [head.width - _principal(head, chosen) for chosen in choices]
    beyond = directions_of(fit, origin.cpu())[:, : max(sizes)].to(weight)

    def norms(features: Tensor) -> Tensor:
        squares = ((features - origin) @ beyond).square()
        return torch.stack([squares[:, :size].sum(1).sqrt() for size in sizes], 1)

    total, greatest = torch.zeros(len(sizes)).to(weight), 0.0
    for part in fit.parts():
        features = part.to(weight)
        total += norms(features).sum(0)
        greatest += float((features @ weight.T + bias).amax(1).sum())
    if not bool(total.all()):
        raise InputError("vim: the fitted features have nothing beyond their principal space: leave it out")
    scales = greatest / total
    return lambda features: ood.energy(head.logits(features))[:, None] - norms(features.double()) * scales


def _principal(head: Head, chosen: Parameters) -> int:
    """The dimensions of the principal space; half of all where there are no more than the chosen ones."""
    dimensions = int(chosen["dimensions"])
    return dimensions if head.width > dimensions else head.width // 2


def _knn(head: Head, fits: Fits, choices: Choices) -> Scorer:
    """Minus the distance to the K-th nearest of the fitted features, all of length 1 (Sun et al., 2022, section 3)."""
    fit, neighbors = _training(fits), [int(chosen["neighbors"]) for chosen in choices]
    most = max(neighbors)
    if len(fit.labels) < most:
        raise InputError(f"knn needs {most} fitted images or more, got {len(fit.labels)}: give more")
    # Two bytes a value: of 50,000 images of 2048 features these are 200 MB.
    bank = torch.cat([part.half() for part in fit.parts()]).to(head.weight.device)

    def score(features: Tensor) -> Tensor:
        # In float64: the distance of neighbors is a small difference of products.
        own = _unit(features)
        near = own.new_empty((len(own), 0))
        for block in bank.split(_KNN_BLOCK):
            candidates = torch.cat([near, torch.cdist(own, _unit(block))], 1)
            near = candidates.topk(min(most, candidates.shape[1]), 1, largest=False).values  # ascending
        return -near[:, [count - 1 for count in neighbors]]

    return score


def _unit(features: Tensor) -> Tensor:
    return nn.functional.normalize(features.double(), dim=1)


def _mahalanobis(head: Head, fits: Fits, _: Choices) -> Scorer:
    """Minus the squared Mahalanobis distance to the nearest class mean, of one covariance (Lee et al., 2018, Eq. 2)."""
    fit = _training(fits)
    means = fit.class_means(len(head.weight))
    # A factor of the precision: distances are then those of points, and classes need no loop.
    root = precision_of(fit, means).to(head.weight.device)
    centers = means.to(root) @ root
    return lambda features: -torch.cdist(features.double() @ root, centers).amin(1, keepdim=True).square()


def _training(fits: Fits) -> Fit:
    assert fits.training is not None
    return fits.training


_OF_FEATURES: Mapping[str, Callable[[Head, Fits, Choices], Scorer]] = {
    "react": _react,
    "dice": _dice,
    "ash": _ash,
    "scale": _scale,
    "vim": _vim,
    "knn": _knn,
    "mahalanobis": _mahalanobis,
}
