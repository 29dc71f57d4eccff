"""AutoAttack (Croce and Hein, 2020) through the `pyautoattack` package: robust accuracy, attack by attack."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from apr_dali.errors import InputError, check_choice, install_command
from apr_dali.eval.checks import check_finite, check_outputs
from apr_dali.eval.state import State

NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
}
ATTACKS = VERSIONS["plus"]
# The margin loss of apgd-dlr takes the third greatest logit, its targeted form the fourth.
_CLASSES_NEEDED = {"apgd-dlr": 3, "apgd-t": 4}


class Normalized(nn.Module):
    """A network with its normalization in front: it takes images in 0..1, as attacks need them."""

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The model's logits of floating images (N, C, H, W) in 0..1."""
        return self.model((images - self.mean) / self.std)


@dataclass(frozen=True)
class Attack:
    """What to attack with.

    version: "standard", "plus", or the name of a single one of ATTACKS with the settings it has in "plus".
    norm: "linf", "l2" or "l1". epsilon: the greatest perturbation in that norm, for images in 0..1. seed: of all draws.
    """

    version: str = "standard"
    norm: str = "linf"
    epsilon: float = 8 / 255
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("version", self.version, (*VERSIONS, *ATTACKS))
        check_choice("norm", self.norm, tuple(NORMS))
        if not self.epsilon > 0:
            raise InputError(f"epsilon must be positive, got {self.epsilon}")

    @property
    def attacks(self) -> tuple[str, ...]:
        """The single attacks, in the order in which they run."""
        return VERSIONS.get(self.version, (self.version,))


def check_attackable(model: nn.Module, images: Tensor, classes: int, attack: Attack) -> None:
    """Raise InputError unless an attack on `model` would mean something.

    The model must be in eval mode, give finite logits that do not change from call to call, and let gradients through
    to the images; these must be float (N, C, H, W) in 0..1, on the model's device; and there must be enough classes.
    """
    if images.min() < 0 or images.max() > 1:
        low, high = images.min().item(), images.max().item()
        raise InputError(
            f"attacks need images in 0..1, got {low:.3g}..{high:.3g}: "
            "put the normalization inside the model (Normalized)"
        )
    if model.training:
        raise InputError("the model must be in eval mode: call model.eval() first")
    check_outputs(model, images, classes)
    for name in attack.attacks:
        needed = _CLASSES_NEEDED.get(name, 2)
        if classes < needed:
            raise InputError(f"the attack {name} needs {needed} classes, the network has {classes}: name others")
    with torch.no_grad():
        # Rounding differs from call to call on some devices, a random defence by far more.
        if not torch.allclose(model(images), model(images), rtol=1e-3, atol=1e-4):
            raise InputError("the network's answers are random: robust accuracy needs a deterministic one")
    leaf = images.clone().requires_grad_()
    logits = model(leaf)
    if not logits.requires_grad or not torch.autograd.grad(logits.max(1)[0].sum(), leaf)[0].abs().sum() > 0:
        raise InputError("no gradient reaches the images: the network hides it, and attacks would seem to fail")


@dataclass(frozen=True)
class Robustness:
    """Shares of `images`, 0..1: right without an attack; and after each attack, the ones before it included."""

    images: int
    clean: float
    after: dict[str, float]

    @property
    def robust(self) -> float:
        """Right after all attacks."""
        return list(self.after.values())[-1]


def robust_accuracy(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    attack: Attack,
    state: State,
    keep: Callable[[int, Tensor], None] | None = None,
) -> Robustness:
    """Attack batch after batch; those that `state` has are not attacked again.

    Each batch has the seed `attack.seed` + its number, so that the result does not depend on where a run was stopped.
    Where torch.distributed runs, each process has batches and a state of its own; all get the result over all.

    Args:
        model: maps images in 0..1 to logits, in eval mode; see `check_attackable`.
        batches: images, float (N, C, H, W) in 0..1, and targets, int64 (N,), on the model's device; at each run the
            same ones.
        keep: is given the number and the adversarial images of each batch: the image itself where no attack succeeds.
    """
    keys = ("clean", *attack.attacks)
    sums = torch.zeros(1 + len(keys), dtype=torch.float64)
    for number, (images, targets) in enumerate(batches):
        name = f"batch {number}"
        if name not in state:
            counts, adversarial = attack_batch(model, images, targets, attack, attack.seed + number)
            if keep is not None:
                keep(number, adversarial)
            state.put(name, [len(images), *(counts[key] for key in keys)])
        sums += torch.tensor(state.get(name), dtype=torch.float64)
    if dist.is_initialized():
        dist.all_reduce(sums)
    total, clean, *after = sums.tolist()
    if not total:
        raise InputError("there are no images to attack")
    return Robustness(int(total), clean / total, {k: v / total for k, v in zip(attack.attacks, after, strict=True)})


def attack_batch(
    model: nn.Module, images: Tensor, targets: Tensor, attack: Attack, seed: int
) -> tuple[dict[str, int], Tensor]:
    """How many of a batch are right: `clean`, and after each attack; and the adversarial images, like `images`.

    images: floating (N, C, H, W), 0..1. targets: integers (N,).

    As AutoAttack does, an attack is run on the images that all attacks before it left right.

    Raises:
        InputError: if a logit is nan or infinite: what an attack makes of it is neither right nor wrong.
    """
    # Images that were read as (N, H, W, C) are views in that order, which pyautoattack cannot flatten.
    images = images.contiguous()
    with torch.no_grad():
        logits = model(images)
    check_finite(logits)
    right = logits.argmax(1) == targets
    attacker = _attacker(model, images.device, attack, seed, logits.shape[1])
    counts = {"clean": int(right.sum())}
    adversarial = images.clone()
    for name in attack.attacks:
        alive = right.nonzero()[:, 0]
        if len(alive):
            attacker.attacks_to_run = [name]
            found, answers = attacker.run_standard_evaluation(images[alive], targets[alive], batch_size=len(alive))
            fooled = answers != targets[alive]
            adversarial[alive] = found
            right[alive[fooled]] = False
        counts[name] = int(right.sum())
    return counts, adversarial


def _attacker(model: nn.Module, device: torch.device, attack: Attack, seed: int, classes: int) -> Any:
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        raise InputError(f"AutoAttack needs pyautoattack: {install_command('eval')}") from error
    version = "plus" if attack.version in ATTACKS else attack.version
    made = AutoAttack(model, norm=NORMS[attack.norm], eps=attack.epsilon, seed=seed, device=device, version=version)
    for part in (made.apgd_targeted, made.fab):
        part.n_target_classes = min(part.n_target_classes, classes - 1)
    # What it logs for each batch says nothing that the table does not.
    made.logger.setLevel(logging.ERROR)
    return made
