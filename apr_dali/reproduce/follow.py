"""Where the paper's text and its released code differ, and what is done here under each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from apr_dali.recipes import uses_pair, uses_single

Options = Mapping[str, tuple[str, ...]]
"""Options of a trainer, by their names without the dashes, each with its values."""
EPOCHS = {"cifar": 200, "imagenet": 100}
"""The length of a published run."""


@dataclass(frozen=True)
class Follow:
    """What is followed: the paper's text or the released code.

    steps: by trainer, the epochs after which a published run's learning rate falls. score: that tells
    out-of-distribution images apart. axes, overflow: the trainers' options. outside: the phase outside a band, radians.
    """

    name: str
    steps: dict[str, tuple[int, ...]]
    score: str
    axes: str
    overflow: str
    outside: int

    def of_augmentation(self, aug: str) -> Options:
        """How APR is done, for `--aug`: nothing for other methods, nor for what is a trainer's default."""
        chosen = {
            "axes": (self.axes, uses_pair(aug) or uses_single(aug)),
            "overflow": (self.overflow, uses_single(aug)),
        }
        return {name: (value,) for name, (value, used) in chosen.items() if used and value != _DEFAULTS[name]}

    def of_schedule(self, trainer: str, epochs: int) -> Options:
        """When the learning rate falls in a run of `epochs`: in the published proportion where it is shorter."""
        published = EPOCHS[trainer]
        if epochs == published and self.steps == CODE.steps:
            return {}
        scaled = {max(1, round(step * epochs / published)) for step in self.steps[trainer]}
        return {"lr-steps": tuple(str(step) for step in sorted(scaled))}


_DEFAULTS = {"axes": "chw", "overflow": "wrap"}
_IMAGENET = (30, 60, 90)
CODE = Follow("code", {"cifar": (60, 120, 160, 190), "imagenet": _IMAGENET}, "max-logit", "chw", "wrap", 0)
PAPER = Follow("paper", {"cifar": (60, 120, 180), "imagenet": _IMAGENET}, "max-softmax", "hw", "clamp", 1)
FOLLOWED = {each.name: each for each in (CODE, PAPER)}

_DIFFERENCES = (
    ("learning rate on CIFAR", "falls every 60 epochs, by a factor that is not given", "× 0.2 after 60, 120, 160, 190"),
    ("out-of-distribution score", "largest softmax probability", "largest logit"),
    ("Fourier transform", "two-dimensional", "over rows, columns and channels"),
    ("APR-S, values outside 0..255", "not said; clamped here", "wrap around"),
    ("phase outside its band (Fig. 4)", "1 radian (ẑ by its words)", "not released; 0 here, our reading"),
)
_ALIKE = (
    ("APR-P's coin", "not said", "60 % of the batches on CIFAR, 50 % on ImageNet"),
    ("order on CIFAR", "flips and crops first", "APR-S, crop, flip, APR-P, normalize"),
    ("factor of the learning rate", "not said", "0.2 on CIFAR, 0.1 on ImageNet"),
)


def differences(chosen: Follow) -> Sequence[tuple[str, str, str, str]]:
    """(what, in the text, in the code, which of the two is followed) of everything in which they differ."""
    return [
        *((*row, chosen.name) for row in _DIFFERENCES),
        *((*row, "code, whatever is chosen") for row in _ALIKE),
    ]
