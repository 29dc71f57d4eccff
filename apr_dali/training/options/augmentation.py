"""Options of what is done to training images."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.augmentations.plan import FORMS, Plan, check_form, is_named, may_be_unmixed, plan, trainable
from apr_dali.errors import InputError
from apr_dali.recipes import AUGMENTATIONS, POLICIES, SAMPLERS, policy_magnitude, uses_pair, uses_single
from apr_dali.spectral import AXES, OVERFLOWS
from apr_dali.training.options.declare import Options, flag, option


@dataclass(frozen=True)
class AugmentationOptions(Options):
    """How training images are drawn and changed."""

    sampler: str = option(
        "data", "shuffle", "each training image once per epoch, or drawn so that classes come alike", choices=SAMPLERS
    )

    aug: str = option(
        "augmentation",
        "none",
        "which part of APR to train with, or another method: docs/augmentations.md tells of each",
        choices=lambda: (*AUGMENTATIONS, *trainable()),
        metavar="NAME",
    )
    aug_form: str = option(
        "augmentation",
        "published",
        "methods other than APR: views and loss as published; jsd: AFA's with its divergence; replaced: the changed "
        "image alone; both: the image and the changed one, with the sum of their losses",
        choices=FORMS,
    )
    overflow: str = option(
        "augmentation", "wrap", "APR-S: values outside 0..255 wrap, as published, or are clamped", choices=OVERFLOWS
    )
    axes: str = option(
        "augmentation", "chw", "transform over channels, rows and columns, as published, or each channel", choices=AXES
    )
    pair_probability: float = option("augmentation", 0.5, "APR-P: share of batches that are mixed", low=0, high=1)
    repeat_unmixed: bool = option(
        "augmentation",
        False,
        "APR-P and other methods with a coin: show a batch that is not mixed in all views, as released, instead of "
        "once; the same loss",
    )

    policy: str = option(
        "augmentation",
        "none",
        f"an augmentation policy before APR, of DALI's operations: {', '.join(POLICIES[1:])}",
        choices=POLICIES,
        metavar="NAME",
    )
    policy_magnitude: int | None = option(
        "augmentation", None, "randaugment: of 0..30, default 9; augmix: severity of 1..10, default 3", metavar="N"
    )
    random_erasing: float = option(
        "augmentation", 0.0, "share of the views that get a rectangle of the mean color, last of all", low=0, high=1
    )

    @property
    def aug_dataset(self) -> str:
        """Whose published settings a method other than APR has, one of `augmentations.record.DATASETS`."""
        return "imagenet"

    @property
    def aug_plan(self) -> Plan | None:
        """How a method of `apr_dali.augmentations` is trained with; None for others."""
        return plan(self.aug, self.aug_dataset, self.aug_form) if is_named(self.aug) else None

    @property
    def may_be_unmixed(self) -> bool:
        """Whether there are batches whose views are one and the same."""
        return may_be_unmixed(self.aug, self.aug_dataset, self.aug_form)

    @property
    def has_auxiliary(self) -> bool:
        """Whether the network has batch norms of their own for some of the views."""
        return self.aug_plan is not None and bool(self.aug_plan.auxiliary)

    @property
    def repeats_unmixed(self) -> bool:
        """Whether the network is to see a batch that a coin leaves unmixed in all views."""
        return self.repeat_unmixed

    def __post_init__(self) -> None:
        super().__post_init__()
        policy_magnitude(self.policy, self.policy_magnitude, "--")
        check_form(self.aug, self.aug_form, "--aug-form")
        if is_named(self.aug):
            plan(self.aug, self.aug_dataset, self.aug_form)  # refuses what is not here
        pair, single = uses_pair(self.aug), uses_single(self.aug)
        for name, usable, needed in (
            ("pair_probability", pair, "apr-p or apr-sp"),
            ("repeat_unmixed", self.may_be_unmixed, "apr-p, apr-sp, or a method whose coin leaves batches unmixed"),
            ("overflow", single, "apr-s or apr-sp"),
            ("axes", pair or single, "apr-p, apr-s or apr-sp"),
        ):
            if not usable and self.changed(name):
                raise InputError(f"{flag(name)} changes nothing with --aug {self.aug}: use {needed}")
