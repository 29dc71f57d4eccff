"""The options of the trainers, as frozen dataclasses with their checks; the defaults are the published recipes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from apr_dali.bands import RADII, BandFilter
from apr_dali.draws import SEEDS
from apr_dali.errors import InputError, check_choice
from apr_dali.recipes import (
    AUGMENTATIONS,
    CHANNELS,
    CIFAR_AUGMENTATIONS,
    CROP_RATIO,
    CROP_SCALE,
    DATASETS,
    HW_DECODER_LOAD,
    ON_ERROR,
    SAMPLERS,
    check_crop,
    uses_pair,
    uses_single,
)
from apr_dali.spectral import AXES, OVERFLOWS

AMP_MODES = ("none", "bf16", "fp16")
MEMORY_FORMATS = ("channels_last", "contiguous")
CHECKS = ("quick", "full", "off")
PRETRAINED = "pretrained"
"""The value of --weights that is no file."""
ON_NONFINITE = ("stop", "skip")
_MISSING_CLASSES = "validation images of some of the training classes will do; other classes are refused as ever"
GROUPS = ("data", "augmentation", "network", "optimization", "adversarial training", "machine", "run")
"""The headings of --help, in their order."""


def option(
    group: str,
    default: Any,
    text: str,
    *,
    choices: tuple[object, ...] = (),
    low: float | None = None,
    high: float | None = None,
    metavar: str | None = None,
) -> Any:
    """A dataclass field that is also an option of the command line.

    group: the heading it stands under in --help. text: its help. choices: the allowed values, () for any.
    low, high: the allowed range, both ends included. metavar: what --help calls the value.
    """
    details = {"group": group, "text": text, "choices": choices, "low": low, "high": high, "metavar": metavar}
    return field(default=default, metadata=details)


def check_options(options: Any) -> None:
    """Raise InputError unless each field of the dataclass `options` is among its choices and in its range."""
    for item in fields(options):
        value, name = getattr(options, item.name), flag(item.name)
        choices, low, high = (item.metadata[key] for key in ("choices", "low", "high"))
        if choices:
            check_choice(name, value, choices)
        if value is None:
            continue
        for number in value if isinstance(value, tuple) else (value,):
            # "not (number >= low)" instead of "number < low": it also refuses nan.
            if low is not None and not number >= low:
                raise InputError(f"{name} must be at least {low}, got {number}")
            if high is not None and not number <= high:
                raise InputError(f"{name} must be at most {high}, got {number}")


def flag(name: str) -> str:
    """The option of the command line that sets the field `name`."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class TrainingOptions:
    """What a training run can be asked for, whatever its data set: each option's type, default, help and range.

    The command line is made from these fields, see `command_line`. Defaults are the published ImageNet
    recipe; a subclass for another data set redeclares the fields in which it differs.
    """

    model: str = option("network", "resnet50", "torchvision or timm model by its exact name; timm/NAME is timm's")
    weights: str = option(
        "network",
        "",
        "start from a file, or pretrained: torchvision's or timm's own; a head for other classes is made anew",
        metavar="pretrained|FILE",
    )
    amp: str = option("network", "none", "autocast: 16-bit arithmetic where it is safe", choices=AMP_MODES)
    memory_format: str = option("network", "channels_last", "order of the images in memory", choices=MEMORY_FORMATS)
    compile: bool = option("network", False, "compile the network (torch.compile)")

    in_chans: int = option("network", 3, "channels of the images: 1 is for networks of gray images", choices=CHANNELS)

    sampler: str = option(
        "data", "shuffle", "each training image once per epoch, or drawn so that classes come alike", choices=SAMPLERS
    )

    aug: str = option("augmentation", "none", "which part of APR to train with", choices=AUGMENTATIONS)
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
        "APR-P: show a batch that is not mixed twice, as released, instead of once; the same loss",
    )

    epochs: int = option("optimization", 100, "passes over the training images", low=1)
    batch_size: int = option("optimization", 256, "images of a step, over all processes, however often shown", low=1)
    lr: float = option("optimization", 0.1, "learning rate", low=0)
    lr_steps: tuple[int, ...] = option("optimization", (30, 60, 90), "epochs after which it falls", low=0)
    lr_factor: float = option("optimization", 0.1, "what it is multiplied by there", low=0, high=1)
    scale_lr: bool = option("optimization", False, "multiply --lr by batch size / 256")
    warmup_epochs: float = option("optimization", 0.0, "epochs over which the learning rate first rises", low=0)
    momentum: float = option("optimization", 0.9, "of SGD", low=0, high=1)
    weight_decay: float = option("optimization", 1e-4, "of SGD, on every parameter", low=0)
    label_smoothing: float = option("optimization", 0.0, "share of the target spread over all classes", low=0, high=1)
    on_nonfinite: str = option(
        "optimization",
        "stop",
        "a loss or gradient that is not finite stops the run, or its step is skipped; fp16 always skips",
        choices=ON_NONFINITE,
    )
    skip_limit: int = option("optimization", 20, "so many steps in a row may be skipped before the run stops", low=1)
    # Epochs and processes are added to it.
    seed: int = option("optimization", 0, "of the weights, the order of images and every draw", low=0, high=SEEDS // 2)

    device: str = option("machine", "auto", "auto takes the GPU where there is one", choices=("auto", "cpu", "gpu"))
    threads: int = option("machine", 0, "data threads of a process; 0 chooses", low=0)

    output: str = option("run", "", "run folder; default runs/MODEL-AUG-TIME", metavar="DIR")
    resume: str = option(
        "run", "", "continue: a checkpoint, or auto for the latest in --output, if any", metavar="auto|PATH"
    )
    checkpoint_minutes: float = option("run", 10.0, "also save after so many minutes within an epoch", low=0)
    eval_only: str = option("run", "", "only validate this checkpoint, write nothing", metavar="PATH")

    @property
    def nesterov(self) -> bool:
        """Whether SGD's momentum is Nesterov's."""
        return False

    @property
    def repeats_unmixed(self) -> bool:
        """Whether the network is to see a batch that APR-P does not mix in both views."""
        return self.repeat_unmixed

    @property
    def cyclic(self) -> bool:
        """Whether the learning rate rises to --lr in the middle of the run and falls to 0, instead of in steps."""
        return False

    def __post_init__(self) -> None:
        check_options(self)
        if not uses_pair(self.aug) and self.pair_probability != type(self).pair_probability:
            raise InputError(f"--pair-probability changes nothing with --aug {self.aug}: use apr-p or apr-sp")
        if self.repeat_unmixed and not uses_pair(self.aug):
            raise InputError(f"--repeat-unmixed changes nothing with --aug {self.aug}: use apr-p or apr-sp")
        if not uses_single(self.aug) and self.overflow != type(self).overflow:
            raise InputError(f"--overflow changes nothing with --aug {self.aug}: use apr-s or apr-sp")
        if not (uses_pair(self.aug) or uses_single(self.aug)) and self.axes != type(self).axes:
            raise InputError(f"--axes changes nothing with --aug {self.aug}: use apr-p, apr-s or apr-sp")
        skips = self.on_nonfinite == "skip" or self.amp == "fp16"
        if not skips and self.skip_limit != type(self).skip_limit:
            raise InputError("--skip-limit changes nothing here: it needs --on-nonfinite skip or --amp fp16")
        if self.eval_only and self.resume:
            raise InputError("--eval-only and --resume exclude each other: validate a checkpoint or train on from it")
        if self.resume == "auto" and not self.output:
            raise InputError("--resume auto needs --output DIR, the run folder to continue")


BEST_BY = ("top1", "corrupted")


@dataclass(frozen=True)
class ImageNetOptions(TrainingOptions):
    """The options of train_imagenet.py."""

    data: str = option("data", "", "folder with train/ and val/, or sample for the built-in photographs", metavar="DIR")
    train: tuple[str, ...] = option(
        "data", (), "further training folders, added to DIR/train: same class names", metavar="DIR"
    )
    train_weights: tuple[float, ...] = option(
        "data",
        (),
        "shares of an epoch from DIR/train and each --train, drawn with replacement (default: each image once)",
        low=0,
        metavar="W",
    )
    val: str = option("data", "", "validation folder instead of DIR/val", metavar="DIR")
    allow_missing_classes: bool = option("data", False, _MISSING_CLASSES)
    image_size: int = option("data", 224, "height and width that the network sees", low=8)
    scale: tuple[float, float] = option(
        "augmentation",
        CROP_SCALE,
        "share of a photograph that a training crop takes, from and to",
        low=0,
        high=1,
    )
    ratio: tuple[float, float] = option(
        "augmentation", CROP_RATIO, "width by height of a training crop, from and to", low=0
    )
    hflip: float = option("augmentation", 0.5, "share of training images that are mirrored", low=0, high=1)
    hw_decoder_load: float = option(
        "machine", HW_DECODER_LOAD, "share of JPEGs for the GPU's hardware decoder, where it has one", low=0, high=1
    )
    check: str = option(
        "data", "quick", "look for broken images first: ends of the files, full decode, or not", choices=CHECKS
    )
    on_error: str = option(
        "data", "raise", "an image that cannot be decoded stops the run, or is left out and counted", choices=ON_ERROR
    )
    validate_corrupted: int = option(
        "run", 0, "measure accuracy under ImageNet-C's corruptions too, on N validation images", low=0, metavar="N"
    )
    best_by: str = option(
        "run", "top1", "accuracy that best.pt has most of: on clean images, or --validate-corrupted's", choices=BEST_BY
    )
    tar_image: str = option(
        "data", "", "the image in a tar's samples (default: the only one), several with ; between them", metavar="EXT"
    )
    tar_label: str = option("data", "cls", "the label in a tar's samples, json:FIELD of one in JSON", metavar="EXT")
    cache: bool = option("data", True, "take an earlier start's listing of folders that have not changed since")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_crop(self.scale, self.ratio, self.hflip, "--")
        if self.eval_only and self.train:
            raise InputError("--train changes nothing with --eval-only: leave it out")
        self._check_corrupted()
        self._check_weights()
        if self.on_error == "skip" and self.check == "full":
            raise InputError("--check full stops at broken images and --on-error skip leaves them out: choose one")
        if not self.data and not (self.val and (self.train or self.eval_only)):
            raise InputError(
                "no data: give --data DIR with DIR/train and DIR/val, --data sample for the built-in photographs, "
                "or --train DIR with --val DIR"
            )

    def _check_weights(self) -> None:
        sources = bool(self.data) + len(self.train)
        if not self.train_weights:
            return
        if self.eval_only or self.sampler != "shuffle":
            other = "--eval-only" if self.eval_only else f"--sampler {self.sampler}"
            raise InputError(f"--train-weights does not go with {other}: leave one of them out")
        if len(self.train_weights) != sources or sources < 2:
            raise InputError(
                f"--train-weights must have a number for each of several sources, --data and every --train: got "
                f"{len(self.train_weights)} for {sources}"
            )
        if not any(self.train_weights):
            raise InputError("--train-weights must not all be 0")

    def _check_corrupted(self) -> None:
        if not self.validate_corrupted:
            if self.best_by == "corrupted":
                raise InputError("--best-by corrupted needs --validate-corrupted N")
            return
        if self.eval_only:
            raise InputError(
                "--validate-corrupted changes nothing with --eval-only: see `apr-dali eval corruption --val`"
            )
        if self.in_chans == 1:
            raise InputError("--validate-corrupted does not go with --in-chans 1: the corruptions are of color images")
        if self.on_error == "skip":
            raise InputError("--validate-corrupted does not go with --on-error skip: it needs images that are whole")


ATTACKS = ("none", "fgsm", "n-fgsm")

_FAST = {"adversarial": "fgsm", "model": "preactresnet18"}
CIFAR_RECIPES: dict[str, dict[str, Any]] = {
    "standard": {},
    # autoattacks/train_fgsm's defaults, and the settings that its README calls optimal.
    "fgsm": {**_FAST, "lr": 0.2, "epochs": 30},
    "fgsm-apr-p": {**_FAST, "aug": "apr-p", "lr": 0.22, "epochs": 55, "pair_probability": 0.16},
    "fgsm-apr-s": {**_FAST, "aug": "apr-s", "lr": 0.23, "epochs": 65},
    "fgsm-apr-sp": {
        **_FAST,
        **{"aug": "apr-sp", "lr": 0.2, "epochs": 90, "pair_probability": 0.16, "single_probability": 0.9},
    },
}
"""Defaults of train_cifar.py by the name of a recipe; options that are given win."""


@dataclass(frozen=True)
class CifarOptions(TrainingOptions):
    """The options of train_cifar.py; the defaults are the published CIFAR recipe."""

    recipe: str = option(
        "run", "standard", "published settings as defaults of the other options", choices=tuple(CIFAR_RECIPES)
    )
    dataset: str = option("data", "digits", "digits are scikit-learn's, and need no file", choices=DATASETS)
    data: str = option("data", "data", "folder with the CIFAR archive, or with train/ and val/", metavar="DIR")
    download: bool = option("data", False, "fetch the CIFAR archive into --data if it is not there")
    image_size: int = option("data", 32, "height and width to which the images of a folder are scaled", low=8)
    allow_missing_classes: bool = option("data", False, _MISSING_CLASSES)

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

    aug: str = option("augmentation", "none", "how to augment beside crops and flips", choices=CIFAR_AUGMENTATIONS)
    pair_probability: float = option("augmentation", 0.6, "APR-P: share of batches that are mixed", low=0, high=1)
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

    epochs: int = option("optimization", 200, "passes over the training images", low=1)
    batch_size: int = option("optimization", 128, "images of a step, over all processes, however often shown", low=1)
    lr_steps: tuple[int, ...] = option("optimization", (60, 120, 160, 190), "epochs after which it falls", low=0)
    lr_factor: float = option("optimization", 0.2, "what it is multiplied by there", low=0, high=1)
    weight_decay: float = option("optimization", 5e-4, "of SGD, on every parameter", low=0)

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

    @property
    def nesterov(self) -> bool:
        return self.adversarial == "none"

    @property
    def cyclic(self) -> bool:
        return self.adversarial != "none"

    @property
    def repeats_unmixed(self) -> bool:
        # Attacks begin at random: the views of one image are two images under attack.
        return self.repeat_unmixed or (self.adversarial != "none" and uses_pair(self.aug))

    @property
    def step_of_attack(self) -> float:
        """--alpha, or what it stands for, in 255ths."""
        return self.alpha or self.epsilon * (1.25 if self.adversarial == "fgsm" else 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse("--single-probability", "single_probability", uses_single(self.aug), "--aug apr-s or apr-sp")
        self._refuse("--phase-weight", "phase_weight", uses_pair(self.aug), "--aug apr-p or apr-sp")
        self._refuse("--download", "download", self.dataset.startswith("cifar"), "--dataset cifar10 or cifar100")
        self._refuse("--data", "data", self.dataset != "digits", "another --dataset than digits")
        for name in ("image_size", "allow_missing_classes"):
            self._refuse(flag(name), name, self.dataset == "folder", "--dataset folder")
        modulated = self.first_layer == "modulated"
        self._refuse("--modulation-noise", "modulation_noise", modulated, "--first-layer modulated")
        self._refuse("--low-filters", "low_filters", not modulated, "--first-layer plain")
        self._refuse("--radii", "radii", bool(self.spectrum), "--spectrum")
        if self.spectrum:
            BandFilter.parse(self.spectrum, self.radii)
        if self.in_chans == 1 and (self.spectrum or self.adversarial != "none"):
            raise InputError("--in-chans 1 does not go with --spectrum nor --adversarial, which work on color images")
        attacked = self.adversarial != "none"
        for name in ("epsilon", "alpha", "on_overfitting"):
            self._refuse(flag(name), name, attacked, "--adversarial fgsm or n-fgsm")
        for name in ("lr_steps", "lr_factor", "warmup_epochs"):
            self._refuse(flag(name), name, not attacked, "--adversarial none: its learning rate is cyclic")
        if attacked:
            self._check_attack()

    def _refuse(self, shown: str, name: str, usable: bool, needed: str) -> None:
        if not usable and getattr(self, name) != getattr(type(self), name):
            raise InputError(f"{shown} changes nothing here: it needs {needed}")

    def _check_attack(self) -> None:
        if self.aug not in AUGMENTATIONS:
            raise InputError(f"--adversarial goes with --aug {', '.join(AUGMENTATIONS)}, got {self.aug}")
        if self.spectrum:
            raise InputError("--adversarial attacks pixels, of which --spectrum hides some: leave one of them out")
        if self.repeat_unmixed:
            raise InputError("--repeat-unmixed changes nothing with --adversarial, which always attacks both views")
        if self.phase_weight != 1:
            raise InputError("--adversarial attacks one label: it does not go with --phase-weight")
        if self.amp == "fp16":
            raise InputError("--adversarial needs gradients too small for fp16: use --amp bf16 or none")
