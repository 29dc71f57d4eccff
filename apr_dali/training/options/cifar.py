"""The options of train_cifar.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from apr_dali.augmentations.plan import trainable
from apr_dali.bands import RADII, BandFilter
from apr_dali.errors import InputError
from apr_dali.recipes import AUGMENTATIONS, CIFAR_AUGMENTATIONS, DATASETS, POLICIES, uses_pair, uses_single
from apr_dali.training.options.common import TrainingOptions
from apr_dali.training.options.declare import MISSING_CLASSES, flag, option, redeclare
from apr_dali.training.options.recipes import CIFAR_RECIPES

redeclared = partial(redeclare, TrainingOptions)
ATTACKS = ("none", "fgsm", "n-fgsm")


@dataclass(frozen=True)
class CifarOptions(TrainingOptions):
    """The options of train_cifar.py; the defaults are the published CIFAR recipe."""

    recipe: str = option(
        "run",
        "standard",
        f"defaults of the other options: {', '.join(CIFAR_RECIPES)}; help prints what each sets",
        choices=tuple(CIFAR_RECIPES),
        metavar="NAME|help",
    )
    dataset: str = option("data", "digits", "digits are scikit-learn's, and need no file", choices=DATASETS)
    data: str = option("data", "data", "folder with the CIFAR archive, or with train/ and val/", metavar="DIR")
    download: bool = option("data", False, "fetch the CIFAR archive into --data if it is not there")
    image_size: int = option("data", 32, "height and width to which the images of a folder are scaled", low=8)
    allow_missing_classes: bool = option("data", False, MISSING_CLASSES)

    model: str = option("network", "wrn-40-2", "CIFAR network by its exact name, or one of torchvision or timm")
    phase_weight: float = option(
        "network",
        1.0,
        "APR-P: weight of the phase's label; the rest is a second head's, for the amplitude's",
        low=0,
        high=1,
    )

    low_filters: float | None = option(
        "network", None, "keep this share of the first layer's filters low-frequency, the rest high", low=0, high=1
    )
    first_layer: str = option(
        "network", "plain", "modulated learns how its filters weigh each radial band", choices=("plain", "modulated")
    )
    modulation_noise: float = option("network", 0.1, "--first-layer modulated: δ of its noise", low=0, high=1)

    aug: str = option(
        "augmentation",
        "none",
        "how to augment beside crops and flips: APR, or another method: docs/augmentations.md tells of each",
        choices=lambda: (*CIFAR_AUGMENTATIONS, *trainable()),
        metavar="NAME",
    )
    pair_probability: float = redeclared("pair_probability", 0.6)
    single_probability: float = option("augmentation", 1.0, "APR-S: share of images that it changes", low=0, high=1)
    spectrum: str = option(
        "network",
        "",
        "show the network, in training and in validation, only these bands of its images: "
        "amplitude and phase each full, low, band or high; outside=1 for the paper's phase outside its band",
        metavar="amplitude=BAND,phase=BAND",
    )
    radii: tuple[float, ...] = option(
        "network", RADII, "--spectrum: where low and band, and band and high meet, in cycles per pixel", low=0
    )

    epochs: int = redeclared("epochs", 200)
    batch_size: int = redeclared("batch_size", 128)
    lr_steps: tuple[int, ...] = redeclared("lr_steps", (60, 120, 160, 190))
    lr_factor: float = redeclared("lr_factor", 0.2)
    weight_decay: float = redeclared("weight_decay", 5e-4)

    adversarial: str = option("adversarial training", "none", "train on attacked images", choices=ATTACKS)
    epsilon: float = option("adversarial training", 8.0, "greatest change of a value, in 255ths", low=0)
    alpha: float = option(
        "adversarial training",
        0.0,
        "step of the attack in 255ths; 0 takes 1.25 × epsilon for fgsm, epsilon for n-fgsm",
        low=0,
    )
    on_overfitting: str = option(
        "adversarial training",
        "warn",
        "when the accuracy under attack collapses: warn, or stop with the last good weights",
        choices=("warn", "stop"),
    )

    policy: str = option(
        "augmentation",
        "none",
        "an augmentation policy before APR, of DALI's operations",
        choices=tuple(name for name in POLICIES if name != "autoaugment"),
    )

    @property
    def aug_dataset(self) -> str:
        return self.dataset if self.dataset.startswith("cifar") else "cifar10"

    @property
    def has_views(self) -> bool:
        return super().has_views or self.aug == "augmix"

    @property
    def sums_views(self) -> bool:
        return super().sums_views and self.aug != "augmix" and self.adversarial == "none"

    @property
    def chosen_optimizer(self) -> str:
        published = "nesterov" if self.adversarial == "none" else "sgd"
        return published if self.optimizer == "auto" else self.optimizer

    @property
    def chosen_schedule(self) -> str:
        published = "step" if self.adversarial == "none" else "cyclic"
        return published if self.schedule == "auto" else self.schedule

    @property
    def repeats_unmixed(self) -> bool:
        # Attacks begin at random: the views of one image are two images under attack.
        return super().repeats_unmixed or (self.adversarial != "none" and uses_pair(self.aug))

    @property
    def step_of_attack(self) -> float:
        """--alpha, or what it stands for, in 255ths."""
        return self.alpha or self.epsilon * (1.25 if self.adversarial == "fgsm" else 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse("single_probability", uses_single(self.aug), "--aug apr-s or apr-sp")
        self.refuse("phase_weight", uses_pair(self.aug), "--aug apr-p or apr-sp")
        self.refuse("download", self.dataset.startswith("cifar"), "--dataset cifar10 or cifar100")
        self.refuse("data", self.dataset != "digits", "another --dataset than digits")
        for name in ("image_size", "allow_missing_classes"):
            self.refuse(name, self.dataset == "folder", "--dataset folder")
        modulated = self.first_layer == "modulated"
        self.refuse("modulation_noise", modulated, "--first-layer modulated")
        self.refuse("low_filters", not modulated, "--first-layer plain")
        if self.low_filters is not None and self.ema is not None:
            raise InputError("--ema does not go with --low-filters: an average of filters need not keep their share")
        self.refuse("radii", bool(self.spectrum), "--spectrum")
        if self.spectrum:
            BandFilter.parse(self.spectrum, self.radii)
        if self.in_chans == 1 and (self.spectrum or self.adversarial != "none"):
            raise InputError("--in-chans 1 does not go with --spectrum nor --adversarial, which work on color images")
        attacked = self.adversarial != "none"
        for name in ("epsilon", "alpha", "on_overfitting"):
            self.refuse(name, attacked, "--adversarial fgsm or n-fgsm")
        if attacked:
            self._check_attack()
        self._check_own_loss()

    def _check_own_loss(self) -> None:
        """Refuse what the losses of some methods would pass over."""
        mixing = ("mixup", "cutmix", "loss")
        for chosen, method, passed in (
            (self.adversarial != "none", f"--adversarial {self.adversarial}", (*mixing, "jsd")),
            (self.phase_weight != 1, f"--phase-weight {self.phase_weight}", (*mixing, "jsd")),
            (self.aug in ("mixup", "cutmix", "augmix"), f"--aug {self.aug}", mixing),
            (self.aug in ("autoaugment", "augmix"), f"--aug {self.aug}", ("policy",)),
        ):
            for name in passed:
                if chosen and self.changed(name):
                    raise InputError(f"{flag(name)} does not go with {method}, which has its own")

    def _check_attack(self) -> None:
        if self.aug not in AUGMENTATIONS:
            raise InputError(f"--adversarial goes with --aug {', '.join(AUGMENTATIONS)}, got {self.aug}")
        if self.spectrum:
            raise InputError("--adversarial attacks pixels, of which --spectrum hides some: leave one of them out")
        if self.repeat_unmixed:
            raise InputError("--repeat-unmixed changes nothing with --adversarial, which always attacks both views")
        if self.phase_weight != 1:
            raise InputError("--adversarial attacks one label: it does not go with --phase-weight")
        if self.ema is not None:
            raise InputError("--adversarial watches the weights themselves for a collapse: it does not go with --ema")
        if self.amp == "fp16":
            raise InputError("--adversarial needs gradients too small for fp16: use --amp bf16 or none")
