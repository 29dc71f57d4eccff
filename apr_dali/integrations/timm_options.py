"""Which arguments of timm's `create_loader` and `Mixup` the wrapper of timm follows, and which it refuses by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from apr_dali.errors import InputError
from apr_dali.recipes import CHANNELS

# What becomes of each argument of timm's create_loader in training.
FOLLOWED = frozenset(
    {"dataset", "input_size", "batch_size", "is_training", "mean", "std", "num_workers", "distributed", "device"}
    | {"img_dtype", "fp16", "scale", "ratio", "hflip"}
)
FIXED: dict[str, tuple[Any, ...]] = {
    "no_aug": (False,),
    "re_prob": (0,),
    "train_crop_mode": (None, "rrc"),
    "vflip": (0,),
    "color_jitter": (0, None),
    "grayscale_prob": (0,),
    "gaussian_blur_prob": (0,),
    "auto_augment": (None, ""),
    "num_aug_repeats": (0,),
    "num_aug_splits": (0,),
    "interpolation": ("bilinear",),
    "collate_fn": (None,),
    "tf_preprocessing": (False,),
    "input_size_choices": (None,),
}
"""What the pipeline does anyhow: any other value is refused."""
WITHOUT_EFFECT = frozenset(
    # Of what is refused above, or of validation.
    {"re_mode", "re_count", "re_split", "color_jitter_prob", "crop_pct", "crop_mode", "crop_border_pixels"}
    | {"batch_size_choices", "batch_choice_weights", "batch_choice_seed", "batch_choice_schedule"}
    | {"batch_schedule_epochs", "batch_schedule_spread", "batch_schedule_random_mix", "num_batches"}
    # How timm's own processes work.
    | {"pin_memory", "use_prefetcher", "use_multi_epochs_loader", "persistent_workers", "worker_seeding"}
)
MIXUP_FIXED: dict[str, tuple[Any, ...]] = {
    "cutmix_alpha": (0,),
    "cutmix_minmax": (None,),
    "prob": (1,),
    "mode": ("batch",),
    "multi_label": (False,),
}
"""Of timm's Mixup, likewise. Its mixup_alpha says that there is to be one; label_smoothing and num_classes are
followed, and with no other mixing switch_prob and correct_lam choose nothing."""

_FLAGS = {
    "interpolation": "train-interpolation",
    "num_aug_repeats": "aug-repeats",
    "num_aug_splits": "aug-splits",
    "auto_augment": "aa",
    "re_prob": "reprob",
    "cutmix_alpha": "cutmix",
    "prob": "mixup-prob",
    "mode": "mixup-mode",
}
"""train.py's names where they are not the argument's."""


def check_loader(given: dict[str, Any], signature: inspect.Signature) -> None:
    """Raise InputError for arguments of timm's create_loader that the pipeline cannot follow."""
    if given["collate_fn"] is not None:
        raise InputError("the DALI loader mixes no batches as they are collated: leave out --mixup and --cutmix")
    unknown = set(given) - FOLLOWED - set(FIXED) - WITHOUT_EFFECT
    # Of a timm newer than this: its defaults are taken to change nothing.
    defaults = {name: (signature.parameters[name].default,) for name in unknown}
    _check_fixed(given, FIXED | defaults, "the DALI loader", "; or take timm's own loader, with --pair")
    for name in ("mean", "std"):
        if len(given[name]) not in (1, 3):
            raise InputError(f"the DALI loader needs one value, or three of color images, got {name}={given[name]}")


def check_mixup(options: Mapping[str, Any]) -> None:
    """Raise InputError for arguments of timm's Mixup that AprPair cannot follow."""
    _check_fixed(options, MIXUP_FIXED, "AprPair in Mixup's place")


def _check_fixed(
    given: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]], what: str, otherwise: str = ""
) -> None:
    """Raise InputError, with all their names, for options that have another value than those that `fixed` allows."""
    wrong = [name for name in fixed if name in given and not any(_same(given[name], value) for value in fixed[name])]
    if wrong:
        arguments = ", ".join(
            f"{name}={given[name]!r} (--{_FLAGS.get(name, name.replace('_', '-'))} must be {fixed[name][0]!r})"
            for name in wrong
        )
        raise InputError(f"{what} cannot follow timm's {arguments}{otherwise}")


def _same(value: Any, allowed: Any) -> bool:
    if isinstance(allowed, (int, float, tuple)) and isinstance(value, (int, float, tuple, list)):
        one, other = (tuple(x) if isinstance(x, (tuple, list)) else (x,) for x in (value, allowed))
        # A command line says 0.75 1.3333.
        return len(one) == len(other) and all(map(partial(math.isclose, rel_tol=1e-3), one, other))
    return bool(value == allowed)


def of_color(values: Any) -> tuple[float, float, float]:
    """Mean or deviation of three channels, where timm may have one for all."""
    red, green, blue = values if len(values) == 3 else tuple(values) * 3
    return red, green, blue


def channels(input_size: Any) -> int:
    """C of timm's S, (S, S) or (C, S, S)."""
    in_chans = 3 if isinstance(input_size, int) or len(input_size) < 3 else int(input_size[0])
    if in_chans not in CHANNELS:
        raise InputError(f"the DALI loader gives images of one channel or three, got input_size={input_size}")
    return in_chans


def side(input_size: Any) -> int:
    """S of timm's S, (S, S) or (C, S, S)."""
    size = (input_size,) if isinstance(input_size, int) else tuple(input_size)
    if len(set(size[-2:])) != 1:
        raise InputError(f"the DALI loader gives square images, got input_size={input_size}")
    return int(size[-1])
