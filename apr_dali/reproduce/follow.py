"""Where the paper's text and its released code differ, and what is done here under each."""

from __future__ import annotations

from collections.abc import Mapping
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

_CIFAR = ("table1", "table2", "fig4", "fig9", "fourier")
_MIXED = ("table1", "table2", "table4", "fig9", "fourier")
_OOD, _APR = ("table2", "fig9"), (*_MIXED, "table3")
_DIFFERENCES = (
    (_CIFAR, "learning rate", "falls every 60 epochs", "× 0.2 after 60, 120, 160 and 190 epochs"),
    (_OOD, "OOD score", "largest softmax probability", "largest logit"),
    (_APR, "Fourier transform", "over rows and columns", "over rows, columns and channels"),
    (
        ("table1", "table2", "table3", "table4", "fourier"),
        "APR-S, overflow",
        "clamped to 0..255 (not said)",
        "wraps around",
    ),
    (("fig4",), "phase outside", "1 radian outside its band", "not released: 0 outside its band, our reading"),
)
_NOT_SAID = (
    (_MIXED, "APR-P's share", "not said", "60 % of the batches on CIFAR, 50 % on ImageNet"),
    (("table3",), "APR-P's share", "not said", "16 % of the batches"),
    (
        ("table1", "table2", "fig9", "fourier"),
        "order on CIFAR",
        "flips and crops first",
        "APR-S, crop, flip, APR-P, normalize",
    ),
    ((*_MIXED, "fig4"), "rate falls to", "not said", "0.2 of it on CIFAR, 0.1 on ImageNet"),
)


def differences(table: str, chosen: Follow) -> list[tuple[str, str, str]]:
    """(what, how it is here, how it is in the other) of what text and code say differently and a table depends on.

    What a trainer cannot do as the text has it, or the text does not say, is as in the code whatever is chosen.
    """
    found = []
    for rows, may_choose in ((_DIFFERENCES, True), (_NOT_SAID, False)):
        for tables, what, text, code in rows:
            if table in tables:
                as_text = may_choose and chosen.name == PAPER.name
                here, other = (text, f"code: {code}") if as_text else (code, f"text: {text}")
                found.append((what, here, other))
    return found
