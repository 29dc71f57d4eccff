"""Named recipes: values of many options at once, with who published them and what of it is not here."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apr_dali.training.options.declare import flag

_WIDTH = 100


@dataclass(frozen=True)
class Recipe:
    """Defaults in place of a trainer's own; options that are given win.

    source: who published it. values: by the names of the options, those that the trainer has by itself left out.
    left_out: what the source does and this trainer does not, "" for nothing.
    """

    source: str
    values: Mapping[str, Any] = field(default_factory=dict)
    left_out: str = ""

    def command_line(self) -> str:
        """The options that it stands for."""
        return " ".join(f"{flag(name)} {_given(value)}" for name, value in self.values.items())


def _given(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def described(recipes: Mapping[str, Recipe]) -> str:
    """What each recipe sets, for people."""
    blocks = []
    for name, recipe in recipes.items():
        lines = [recipe.source, recipe.command_line() or "the defaults"]
        lines += [f"left out: {recipe.left_out}"] * bool(recipe.left_out)
        wrapped = (
            textwrap.fill(line, _WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False)
            for line in lines
        )
        blocks.append("\n".join([name, *wrapped]))
    return "\n\n".join(blocks)


_OURS = "ours, not yet run on {}: APR-SP with AugMix's consistency loss, under what current recipes agree on"
_SMOOTH: dict[str, Any] = {
    "aug": "apr-sp",
    # AugMix's and PRIME's weight.
    "jsd": 12.0,
    "optimizer": "nesterov",
    "schedule": "cosine",
    "warmup_epochs": 5.0,
    "no_decay": "norms-and-biases",
}

IMAGENET_RECIPES: dict[str, Recipe] = {
    "published": Recipe("Chen et al., Amplitude-Phase Recombination (ICCV 2021), released code; give --aug"),
    "modern": Recipe(
        _OURS.format("ImageNet"),
        # An average over 10,000 updates, eight of the hundred epochs.
        {**_SMOOTH, "batch_size": 1024, "lr": 0.4, "weight_decay": 5e-5, "ema": 0.9999},
    ),
    "rsb-a2": Recipe(
        "Wightman, Touvron and Jégou, ResNet strikes back (2021), procedure A2, as timm's train.py is given it",
        {
            **{"epochs": 300, "batch_size": 2048, "optimizer": "lamb", "lr": 5e-3, "weight_decay": 0.02},
            **{"no_decay": "norms-and-biases", "schedule": "cosine", "warmup_epochs": 5.0, "warmup_lr": 1e-4},
            **{"min_lr": 1e-6, "loss": "bce", "bce_threshold": 0.2, "mixup": 0.1, "cutmix": 1.0},
            # timm's level 7 of 10, on a scale of 30.
            **{"policy": "randaugment", "policy_magnitude": 21, "val_crop": 0.95, "amp": "fp16"},
        },
        "repeated augmentation (3), stochastic depth (0.05), RandAugment's random magnitude (0.5), bicubic scaling; "
        "timm's rate falls by epoch",
    ),
    "ffcv-88": Recipe(
        "Leclerc et al., ffcv-imagenet, rn50_configs/rn50_88_epochs.yaml",
        {
            **{"epochs": 88, "batch_size": 4096, "lr": 1.7, "schedule": "linear", "warmup_epochs": 2.0},
            **{"warmup_lr": 1.7e-4, "no_decay": "norms-and-biases", "label_smoothing": 0.1, "image_size": 192},
            **{"progressive": ("160:65", "192:76"), "val_size": 256, "amp": "fp16"},
        },
        "blur pooling, the mean over mirrored images in validation; it decays biases, and batch norm in shortcuts",
    ),
}
"""Defaults of train_imagenet.py by the name of a recipe."""

_FAST: dict[str, Any] = {"adversarial": "fgsm", "model": "preactresnet18"}
_FAST_SOURCE = "Chen et al. (2021), autoattacks/train_fgsm: {}"
CIFAR_RECIPES: dict[str, Recipe] = {
    "standard": Recipe("Chen et al., Amplitude-Phase Recombination (ICCV 2021), released code; give --aug"),
    "modern": Recipe(
        _OURS.format("CIFAR"),
        # An average over 1,000 updates, two and a half of the 200 epochs.
        {**_SMOOTH, "ema": 0.999},
    ),
    "airbench": Recipe(
        "Jordan, 94% on CIFAR-10 in 3.29 seconds on a single GPU (2024), airbench96.py as of June 2024, with APR-SP "
        "in place of its cutout",
        {
            **{"aug": "apr-sp", "epochs": 31, "batch_size": 1024, "optimizer": "nesterov", "momentum": 0.85},
            # It gives them per 1024 images of a summed loss, over 1 + 1 / (1 - momentum): 9.0, and 0.012 / 9.0.
            **{"lr": 1.174, "weight_decay": 1.333e-3, "label_smoothing": 0.2},
            # A fifth of the rate at first, all of it after a tenth of the run.
            **{"schedule": "linear", "warmup_epochs": 3.1, "warmup_lr": 0.2348},
        },
        "its network with its whitening layer, identity initialization and scaled logits; a rate of 64 times for the "
        "biases of batch norm; lookahead; flips that alternate from epoch to epoch; reflected borders (gray here); "
        "half-precision weights; the mean over mirrored and shifted images in validation",
    ),
    "fgsm": Recipe(_FAST_SOURCE.format("its defaults"), {**_FAST, "lr": 0.2, "epochs": 30}),
    "fgsm-apr-p": Recipe(
        _FAST_SOURCE.format("what its README calls optimal"),
        {**_FAST, "aug": "apr-p", "lr": 0.22, "epochs": 55, "pair_probability": 0.16},
    ),
    "fgsm-apr-s": Recipe(
        _FAST_SOURCE.format("what its README calls optimal"), {**_FAST, "aug": "apr-s", "lr": 0.23, "epochs": 65}
    ),
    "fgsm-apr-sp": Recipe(
        _FAST_SOURCE.format("what its README calls optimal"),
        {
            **_FAST,
            **{"aug": "apr-sp", "lr": 0.2, "epochs": 90, "pair_probability": 0.16, "single_probability": 0.9},
        },
    ),
}
"""Defaults of train_cifar.py by the name of a recipe."""
