"""Scores of logits, features and gradients that tell in-distribution images from others, by their published names.

A score is higher for an image that looks more like the training set. The parameters are OpenOOD v1.5's, which has them
from the papers; nothing is tuned on out-of-distribution images. ODIN, ReAct, ASH and SCALE are pytorch-ood's. Others
that are fitted to many images are defined here, on features that are read in parts; so is GEN, because pytorch-ood
clamps probabilities at 1e-7, which changes the order of sure images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from apr_dali.errors import InputError, check_choice, install_command
from apr_dali.eval import ood
from apr_dali.eval.head import Head
from apr_dali.eval.ood_fits import Fit, directions_of, precision_of
from apr_dali.eval.outputs import Batch, Function

GEN_POWER, GEN_TOP = 0.1, 100
ODIN_TEMPERATURE, ODIN_STEP = 1000.0, 0.0014
REACT_SHARE, DICE_SHARE, ASH_SHARE, SCALE_SHARE = 0.90, 0.90, 0.90, 0.85
VIM_DIMENSIONS = 256
KNN_NEIGHBORS = 50
_KNN_BLOCK = 4096  # of fitted features that are compared at once


@dataclass(frozen=True)
class Kind:
    """What a score needs beside logits. parameters, paper: for people."""

    paper: str
    parameters: str = ""
    features: bool = False
    gradients: bool = False
    fitted: bool = False
    library: bool = False


KINDS = {
    "max-softmax": Kind("Hendrycks and Gimpel, 2017"),
    "max-logit": Kind("Hendrycks et al., 2022"),
    "energy": Kind("Liu et al., 2020", "temperature 1"),
    "gen": Kind("Liu et al., 2023", f"power {GEN_POWER}, the {GEN_TOP} greatest probabilities"),
    "odin": Kind(
        "Liang et al., 2018",
        f"temperature {ODIN_TEMPERATURE:g}, step {ODIN_STEP} of pixels in 0..1",
        gradients=True,
        library=True,
    ),
    "react": Kind("Sun et al., 2021", f"percentile {100 * REACT_SHARE:g}", features=True, fitted=True, library=True),
    "dice": Kind("Sun and Li, 2022", f"{100 * DICE_SHARE:g} % of the weights left out", features=True, fitted=True),
    "ash": Kind("Djurisic et al., 2023", f"ASH-B, percentile {100 * ASH_SHARE:g}", features=True, library=True),
    "scale": Kind("Xu et al., 2024", f"percentile {100 * SCALE_SHARE:g}", features=True, library=True),
    "vim": Kind(
        "Wang et al., 2022",
        f"{VIM_DIMENSIONS} principal dimensions, half of them all where there are no more",
        features=True,
        fitted=True,
    ),
    "knn": Kind("Sun et al., 2022", f"{KNN_NEIGHBORS} neighbors", features=True, fitted=True),
    "mahalanobis": Kind("Lee et al., 2018", "of the last features, no step", features=True, fitted=True),
}
"""By their names, in the order of tables."""
DEFAULT = tuple(ood.SCORES)


def checked_scores(names: Sequence[str] | None, fit_data: object, logits_only: bool = False) -> tuple[str, ...]:
    """The scores that are asked for, in the order of KINDS; `all` for all of them, None for the usual three.

    fit_data: the images that some are fitted to, None for none. logits_only: others cannot be computed.

    Raises:
        InputError: for an unknown name, scores that need what is not there, or `fit_data` that none needs.
    """
    if names is not None and not names:
        raise InputError(f"scores names none: expected some of all, {', '.join(KINDS)}")
    asked = DEFAULT if names is None else tuple(KINDS) if "all" in names else tuple(names)
    for name in asked:
        check_choice("scores", name, ("all", *KINDS))
    chosen = tuple(name for name in KINDS if name in asked)
    fitted = [name for name in chosen if KINDS[name].fitted]
    if fitted and fit_data is None:
        raise InputError(f"{', '.join(fitted)} are fitted to training images: give --fit-data, or leave them out")
    if fit_data is not None and not fitted:
        raise InputError(f"--fit-data changes nothing for {', '.join(chosen)}, which are not fitted: leave it out")
    if logits_only and (others := [name for name in chosen if KINDS[name].features]):
        raise InputError(f"{', '.join(others)} are of all classes' features: leave them out of --imagenet-o")
    if any(KINDS[name].library for name in chosen):
        _library()
    return chosen


def score_functions(
    names: Sequence[str], model: nn.Module, std: Sequence[float], head: Head | None, fit: Fit | None
) -> dict[str, Function]:
    """A function of a batch for each of `names`, which `checked_scores` gave.

    Args:
        model: that gives the logits, for gradients. std: that its images were divided by.
        head: its last layer, for scores of features. fit: the images for those that are fitted.

    Raises:
        InputError: where the fitted images are too few.
    """
    makers: Mapping[str, Callable[[], Function]] = {
        **{name: _of_logits(score) for name, score in ood.SCORES.items()},
        "gen": _of_logits(generalized_entropy),
        "odin": lambda: _odin(model, std),
        **{name: _of_features(maker, head, fit) for name, maker in _OF_FEATURES.items()},
    }
    return {name: makers[name]() for name in names}


def generalized_entropy(logits: Tensor, power: float = GEN_POWER, top: int = GEN_TOP) -> Tensor:
    """GEN, float64 (N,): minus the sum of pᵞ(1 − p)ᵞ over the `top` greatest probabilities p (Liu et al., 2023, Eq. 2).

    Args:
        logits: floating (N, classes).
    """
    log = logits.double().log_softmax(1)
    found = log.topk(min(top, log.shape[1]), 1).values.exp()
    return -(found**power * (1 - found).clamp(min=0) ** power).sum(1)


def _of_logits(score: Callable[[Tensor], Tensor]) -> Callable[[], Function]:
    return lambda: lambda batch: score(batch.logits)


def _odin(model: nn.Module, std: Sequence[float]) -> Function:
    preprocessed = _library().odin_preprocessing

    def score(batch: Batch) -> Tensor:
        # In float32 whatever the network runs in: gradients of 16 bits vanish at this temperature.
        with torch.autocast(batch.images.device.type, enabled=False):
            images = batch.images.float()
            moved = preprocessed(
                model, images, eps=ODIN_STEP, temperature=ODIN_TEMPERATURE, norm_std=[float(value) for value in std]
            )
            return ood.max_softmax(model(moved).double() / ODIN_TEMPERATURE)

    return score


Scorer = Callable[[Tensor], Tensor]
"""Of features float32 (N, D): (N,)."""


def _of_features(
    maker: Callable[[Head, Fit | None], Scorer], head: Head | None, fit: Fit | None
) -> Callable[[], Function]:
    def make() -> Function:
        assert head is not None
        scorer = maker(head, fit)

        def score(batch: Batch) -> Tensor:
            assert batch.features is not None
            return scorer(batch.features)

        return score

    return make


def _minus_energy(logits: Tensor) -> Tensor:
    return -ood.energy(logits)


def _shaped(name: str, **options: object) -> Callable[[Head], Scorer]:
    """The energy after pytorch-ood's detector NAME has changed the features."""

    def make(head: Head) -> Scorer:
        detector = getattr(_library(), name)(
            None, lambda maps: head.logits(maps.flatten(1)), detector=_minus_energy, **options
        )
        return lambda features: -detector.predict_feature_maps(features[:, :, None, None])

    return make


def _react(head: Head, fit: Fit | None) -> Scorer:
    assert fit is not None
    return _shaped("ReAct", threshold=fit.percentile(REACT_SHARE))(head)


def _dice(head: Head, fit: Fit | None) -> Scorer:
    """The energy with the weights left out that add least to the logits in the mean (Sun and Li, 2022, section 3)."""
    assert fit is not None
    added = fit.mean().to(head.weight) * head.weight
    # NumPy's: torch.quantile takes no more than 16 million values.
    weight = head.weight * (added > float(np.percentile(added.cpu().numpy(), 100 * DICE_SHARE)))
    return lambda features: ood.energy(nn.functional.linear(features, weight, head.bias))


def _vim(head: Head, fit: Fit | None) -> Scorer:
    """The energy less a virtual logit (Wang et al., 2022, section 4.3).

    That is the norm of what features have beyond their principal space, in units in which its mean is that of the
    greatest logits of the fitted images. The origin is where all logits are least apart, −W⁺b.
    """
    assert fit is not None
    weight, bias = head.weight.double(), head.bias.double()
    origin = -(torch.linalg.pinv(weight) @ bias)
    size = VIM_DIMENSIONS if head.width > VIM_DIMENSIONS else head.width // 2
    beyond = directions_of(fit, origin.cpu())[:, : head.width - size].to(weight)
    norms, greatest, count = 0.0, 0.0, 0
    for part in fit.parts():
        features = part.to(weight)
        norms += float(((features - origin) @ beyond).norm(dim=1).sum())
        greatest += float((features @ weight.T + bias).amax(1).sum())
        count += len(features)
    if not norms:
        raise InputError("vim: the fitted features have nothing beyond their principal space: leave it out")
    scale = greatest / norms

    def score(features: Tensor) -> Tensor:
        virtual = ((features.double() - origin) @ beyond).norm(dim=1) * scale
        return ood.energy(head.logits(features)) - virtual

    return score


def _knn(head: Head, fit: Fit | None) -> Scorer:
    """Minus the distance to the K-th nearest of the fitted features, all of length 1 (Sun et al., 2022, section 3)."""
    assert fit is not None
    if len(fit.labels) < KNN_NEIGHBORS:
        raise InputError(f"knn needs {KNN_NEIGHBORS} fitted images or more, got {len(fit.labels)}: give more")
    # Two bytes a value: of 50,000 images of 2048 features these are 200 MB.
    bank = torch.cat([part.half() for part in fit.parts()]).to(head.weight.device)

    def score(features: Tensor) -> Tensor:
        # In float64: the distance of neighbors is a small difference of products.
        own = _unit(features)
        near = own.new_empty((len(own), 0))
        for block in bank.split(_KNN_BLOCK):
            candidates = torch.cat([near, torch.cdist(own, _unit(block))], 1)
            near = candidates.topk(min(KNN_NEIGHBORS, candidates.shape[1]), 1, largest=False).values
        return -near.amax(1)

    return score


def _unit(features: Tensor) -> Tensor:
    return nn.functional.normalize(features.double(), dim=1)


def _mahalanobis(head: Head, fit: Fit | None) -> Scorer:
    """Minus the squared Mahalanobis distance to the nearest class mean, of one covariance (Lee et al., 2018, Eq. 2)."""
    assert fit is not None
    means = fit.class_means(len(head.weight))
    # A factor of the precision: distances are then those of points, and classes need no loop.
    root = precision_of(fit, means).to(head.weight.device)
    centers = means.to(root) @ root
    return lambda features: -torch.cdist(features.double() @ root, centers).amin(1).square()


_OF_FEATURES: Mapping[str, Callable[[Head, Fit | None], Scorer]] = {
    "react": _react,
    "dice": _dice,
    "ash": lambda head, _: _shaped("ASH", variant="ash-b", percentile=ASH_SHARE)(head),
    "scale": lambda head, _: _shaped("SCALE", percentile=SCALE_SHARE)(head),
    "vim": _vim,
    "knn": _knn,
    "mahalanobis": _mahalanobis,
}


def _library() -> ModuleType:
    try:
        from pytorch_ood import detector
    except ImportError as error:
        raise InputError(f"odin, react, ash and scale need pytorch-ood: {install_command('eval')}") from error
    return detector
