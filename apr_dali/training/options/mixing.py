"""Options of mixed batches and of the loss over them."""

from __future__ import annotations

from dataclasses import dataclass

from apr_dali.errors import InputError
from apr_dali.recipes import uses_pair
from apr_dali.training.options.augmentation import AugmentationOptions
from apr_dali.training.options.declare import flag, option
from apr_dali.training.options.optimization import OptimizationOptions

MIX_VIEWS = ("both", "clean")
LOSSES = ("cross-entropy", "bce")
OWN_LOSSES = ("jsd", "auxiliary", "teacher")
"""Objectives of augmentations that are more than a sum of cross-entropies."""


@dataclass(frozen=True)
class MixingOptions(OptimizationOptions, AugmentationOptions):
    """What becomes of a batch between the loader and the network, and what of the network's outputs."""

    mixup: float = option("augmentation", 0.0, "MixUp: α of Beta(α, α); 0 for none", low=0, high=100, metavar="ALPHA")
    cutmix: float = option(
        "augmentation",
        0.0,
        "CutMix likewise; with --mixup a coin decides on each batch",
        low=0,
        high=100,
        metavar="ALPHA",
    )
    mix_views: str = option(
        "augmentation", "both", "APR-P: mix both views, with one partner, or the clean one alone", choices=MIX_VIEWS
    )

    loss: str = option(
        "optimization", "cross-entropy", "bce: binary cross-entropy, a yes or no for each class", choices=LOSSES
    )
    bce_threshold: float | None = option(
        "optimization", None, "--loss bce: targets above it count as 1, all others as 0", low=0, high=1
    )
    jsd: float | None = option(
        "optimization",
        None,
        "weight of the Jensen-Shannon divergence between the views of an image; 12 is AugMix's",
        low=0,
        metavar="WEIGHT",
    )

    @property
    def mixes(self) -> bool:
        """Whether batches are mixed by MixUp or CutMix."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def repeats_unmixed(self) -> bool:
        # The views of one image are two where one alone is mixed with others.
        return super().repeats_unmixed or (uses_pair(self.aug) and self.mixes and self.mix_views == "clean")

    @property
    def has_views(self) -> bool:
        """Whether the network sees several views of an image."""
        return uses_pair(self.aug) or (self.aug_plan is not None and self.aug_plan.views > 1)

    @property
    def sums_views(self) -> bool:
        """Whether the loss is the sum of what it is of each view."""
        return self.aug_plan is None or self.aug_plan.objective not in OWN_LOSSES

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse("mix_views", self.mixes and uses_pair(self.aug), "--mixup or --cutmix, and --aug apr-p or apr-sp")
        self.refuse("bce_threshold", self.loss == "bce", "--loss bce")
        self.refuse("jsd", self.has_views, "several views of an image: --aug apr-p or apr-sp, or --aug-form both")
        self._check_own_loss_of_plan()
        if self.mix_views == "clean" and self.repeat_unmixed:
            raise InputError("--repeat-unmixed changes nothing with --mix-views clean, which shows both views anyway")
        if self.jsd and self.mix_views == "clean":
            raise InputError("--jsd compares views of one image, of which --mix-views clean makes two: mix both")
        if self.jsd and self.loss == "bce":
            raise InputError("--jsd is of class probabilities that add up to 1: it does not go with --loss bce")

    def _check_own_loss_of_plan(self) -> None:
        """Refuse what a method's own loss would pass over."""
        plan = self.aug_plan
        if plan is None or plan.objective not in OWN_LOSSES:
            return
        passed = ("mixup", "cutmix", "loss") if "jsd" in plan.weights else ("mixup", "cutmix", "loss", "jsd")
        for name in passed:
            if self.changed(name):
                other = ", or give --aug-form jsd" if name == "jsd" and plan.objective == "auxiliary" else ""
                raise InputError(f"{flag(name)} does not go with --aug {self.aug}, which has its own loss{other}")
