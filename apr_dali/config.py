"""The recipes: what was published, as frozen dataclasses with their checks."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from apr_dali.bands import RADII, Spectrum
from apr_dali.errors import InputError
from apr_dali.spectral import AXES, OVERFLOWS

AUGMENTATIONS = ("none", "apr-p", "apr-s", "apr-sp")
CIFAR_AUGMENTATIONS = (*AUGMENTATIONS, "cutout", "mixup", "cutmix", "autoaugment", "augmix")
"""With the methods that the paper compares APR with on CIFAR."""


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Raise InputError unless `value` is one of `choices`."""
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


SEEDS = 2**63 - 1
"""The greatest seed."""


def check_whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Raise InputError unless `value` is a whole number in low..high, both included."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    # True is a number to Python, and a mistake here.
    if number is None or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if number < low:
        raise InputError(f"{name} must be at least {low}, got {number}")
    if high is not None and number > high:
        raise InputError(f"{name} must be at most {high}, got {number}")


def uses_single(aug: str) -> bool:
    """Whether the augmentation, one of CIFAR_AUGMENTATIONS, contains APR-S."""
    check_choice("aug", aug, CIFAR_AUGMENTATIONS)
    return aug in ("apr-s", "apr-sp")


def uses_pair(aug: str) -> bool:
    """Whether the augmentation contains APR-P, and with it a second view of each image."""
    check_choice("aug", aug, CIFAR_AUGMENTATIONS)
    return aug in ("apr-p", "apr-sp")


@dataclass(frozen=True)
class AprRecipe:
    """How APR is applied to a data set.

    pair_probability: share of batches whose images are mixed (APR-P's coin).
    pair_after_normalise: whether APR-P sees normalised images (ImageNet) or images in 0..1 (CIFAR).
    mean, std: of the normalisation, one a channel, for images in 0..1.
    overflow: what APR-S does with values outside 0..255, see `apr_dali.single`.
    axes: what is transformed together, see `apr_dali.recombine`.
    """

    pair_probability: float
    pair_after_normalise: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    overflow: str = "wrap"
    axes: str = "chw"

    def __post_init__(self) -> None:
        if not 0 <= self.pair_probability <= 1:
            raise InputError(f"pair_probability must be in 0..1, got {self.pair_probability}")
        if min(self.std) <= 0:
            raise InputError(f"std must be positive, got {self.std}")
        check_choice("overflow", self.overflow, OVERFLOWS)
        check_choice("axes", self.axes, AXES)

    def gray(self) -> AprRecipe:
        """This recipe for gray images, whose channels are one: mean and std are those of the three on average."""
        mean, std = (values[0] if len(set(values)) == 1 else sum(values) / 3 for values in (self.mean, self.std))
        return replace(self, mean=(mean,) * 3, std=(std,) * 3)


# The released code (iCGY96/APR): main_imagenet's and main's settings.
IMAGENET = AprRecipe(0.5, True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CIFAR = AprRecipe(0.6, False, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
# autoattacks/train_fgsm there: another deviation, and mixed after normalisation.
CIFAR_ADVERSARIAL = AprRecipe(0.4, True, mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))


FILTERS = ("bilinear", "bicubic")
GEOMETRIES = ("center", "squash", "border")


@dataclass(frozen=True)
class Scaling:
    """How an image is scaled before an evaluation's centre crop.

    over_crop: length of a side then, in sides of the crop. filter: one of FILTERS, antialiased. geometry: which side it
    is, one of GEOMETRIES, timm's crop modes: center: the shorter one; border: the longer one; squash: both, whatever
    the shape. What the image does not fill of the crop is black, with border of the mean's color.
    """

    over_crop: float = 256 / 224
    filter: str = "bilinear"
    geometry: str = "center"

    def __post_init__(self) -> None:
        if not 0 < self.over_crop < math.inf:
            raise InputError(f"over_crop must be a positive number, got {self.over_crop}")
        check_choice("filter", self.filter, FILTERS)
        check_choice("geometry", self.geometry, GEOMETRIES)

    def resized(self, height: int, width: int, size: int) -> tuple[int, int]:
        """Height and width of an image, scaled for a crop of size × size."""
        side = round(size * self.over_crop)
        if self.geometry == "squash":
            return side, side
        if self.geometry == "border":
            return round(height * side / max(height, width)), round(width * side / max(height, width))
        # torchvision cuts the longer side's length down to a whole number.
        return height * side // min(height, width), width * side // min(height, width)

    def border(self, mean: Sequence[float]) -> tuple[int, ...]:
        """The levels, 0..255, around an image that does not fill its crop, for a network of this `mean`, 0..1."""
        return tuple(round(255 * value) if self.geometry == "border" else 0 for value in mean)

    def in_words(self, size: int) -> str:
        """What becomes of an image for a network of size × size pixels."""
        side = round(size * self.over_crop)
        which = {"center": "shorter side", "border": "longer side", "squash": "both sides"}[self.geometry]
        return f"{which} scaled to {side} ({self.filter}), middle {size}×{size}"


STANDARD = Scaling()
"""torchvision's recipe for ImageNet, and that of the released code."""
WHOLE = Scaling(1.0, "bilinear", "squash")
"""That of train_cifar.py for the images of a folder."""

# What torchvision's RandomResizedCrop draws from.
CROP_SCALE = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)

HW_DECODER_LOAD = 0.65
"""Share of JPEGs for a GPU's hardware decoder: DALI's default, to which its maintainers returned from 0.9."""


def check_crop(scale: Sequence[float], ratio: Sequence[float], hflip: float, prefix: str = "") -> None:
    """Raise InputError unless training crops can be drawn so. prefix: before the names in messages."""
    for name, values in (("scale", scale), ("ratio", ratio)):
        try:
            low, high = map(float, values)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        # "not (0 < ...)": it also refuses nan.
        if not 0 < low <= high < math.inf:
            raise InputError(f"{prefix}{name} must be two positive numbers, the smaller first, got {values}")
    if scale[1] > 1:
        raise InputError(f"{prefix}scale must be at most 1, the whole image, got {scale}")
    check_share(f"{prefix}hflip", hflip)


def check_share(name: str, value: float) -> None:
    """Raise InputError unless `value` is in 0..1."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise InputError(f"{name} must be in 0..1, got {value!r}")


AMP_MODES = ("none", "bf16", "fp16")
MEMORY_FORMATS = ("channels_last", "contiguous")
CHECKS = ("quick", "full", "off")
ON_ERROR = ("raise", "skip")
CHANNELS = (1, 3)
SAMPLERS = ("shuffle", "balanced")
PRETRAINED = "pretrained"
"""The value of --weights that is no file."""
ON_NONFINITE = ("stop", "skip")
_MISSING_CLASSES = "validation images of some of the training classes will do; other classes are refused as ever"
GROUPS = ("data", "augmentation", "network", "optimisation", "adversarial training", "machine", "run")
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
    """What a training run can be told, whatever its data set: each option's type, default, help and range.

    The command line is made from these fields, see `apr_dali.training.options`. Defaults are the published ImageNet
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
        "data", "shuffle", "each training image once an epoch, or drawn so that classes come alike", choices=SAMPLERS
    )

    aug: str = option("augmentation", "none", "which part of APR to train with", choices=AUGMENTATIONS)
    overflow: str = option(
        "augmentation", "wrap", "APR-S: values outside 0..255 wrap, as published, or are clamped", choices=OVERFLOWS
    )
    axes: str = option(
        "augmentation", "chw", "transform over channels, rows and columns, as published, or each channel", choices=AXES
    )
    pair_probability: float = option("augmentation", 0.5, "APR-P: share of batches that are mixed", low=0, high=1)

    epochs: int = option("optimisation", 100, "passes over the training images", low=1)
    batch_size: int = option("optimisation", 256, "images of a step, over all processes; APR-P shows each twice", low=1)
    lr: float = option("optimisation", 0.1, "learning rate", low=0)
    lr_steps: tuple[int, ...] = option("optimisation", (30, 60, 90), "epochs after which it falls", low=0)
    lr_factor: float = option("optimisation", 0.1, "what it is multiplied by there", low=0, high=1)
    scale_lr: bool = option("optimisation", False, "multiply --lr by batch size / 256")
    warmup_epochs: float = option("optimisation", 0.0, "epochs over which the learning rate first rises", low=0)
    momentum: float = option("optimisation", 0.9, "of SGD", low=0, high=1)
    weight_decay: float = option("optimisation", 1e-4, "of SGD, on every parameter", low=0)
    label_smoothing: float = option("optimisation", 0.0, "share of the target spread over all classes", low=0, high=1)
    on_nonfinite: str = option(
        "optimisation",
        "stop",
        "a loss or gradient that is not finite stops the run, or its step is skipped; fp16 always skips",
        choices=ON_NONFINITE,
    )
    skip_limit: int = option("optimisation", 20, "so many steps in a row may be skipped before the run stops", low=1)
    # Epochs and processes are added to it.
    seed: int = option("optimisation", 0, "of the weights, the order of images and every draw", low=0, high=SEEDS // 2)

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
    def cyclic(self) -> bool:
        """Whether the learning rate rises to --lr in the middle of the run and falls to 0, instead of in steps."""
        return False

    def __post_init__(self) -> None:
        check_options(self)
        if not uses_pair(self.aug) and self.pair_probability != type(self).pair_probability:
            raise InputError(f"--pair-probability changes nothing with --aug {self.aug}: use apr-p or apr-sp")
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


@dataclass(frozen=True)
class ImageNetOptions(TrainingOptions):
    """The options of train_imagenet.py."""

    data: str = option("data", "", "folder with train/ and val/, or sample for the built-in photographs", metavar="DIR")
    train: tuple[str, ...] = option(
        "data", (), "further training folders, added to DIR/train: same class names", metavar="DIR"
    )
    val: str = option("data", "", "validation folder instead of DIR/val", metavar="DIR")
    allow_missing_classes: bool = option("data", False, _MISSING_CLASSES)
    image_size: int = option("data", 224, "height and width that the network sees", low=8)
    scale: tuple[float, ...] = option(
        "augmentation",
        CROP_SCALE,
        "share of a photograph that a training crop takes, from and to",
        low=0,
        high=1,
    )
    ratio: tuple[float, ...] = option(
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
    tar_image: str = option(
        "data", "", "the image in a tar's samples (default: the only one), several with ; between them", metavar="EXT"
    )
    tar_label: str = option("data", "cls", "the label in a tar's samples", metavar="EXT")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_crop(self.scale, self.ratio, self.hflip, "--")
        if self.eval_only and self.train:
            raise InputError("--train changes nothing with --eval-only: leave it out")
        if self.on_error == "skip" and self.check == "full":
            raise InputError("--check full stops at broken images and --on-error skip leaves them out: choose one")
        if not self.data and not (self.val and (self.train or self.eval_only)):
            raise InputError(
                "no data: give --data DIR with DIR/train and DIR/val, --data sample for the built-in photographs, "
                "or --train DIR with --val DIR"
            )


DATASETS = ("cifar10", "cifar100", "digits", "folder")
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
        "network", RADII, "--spectrum: where low and band, and band and high meet, in cycles a pixel", low=0
    )

    epochs: int = option("optimisation", 200, "passes over the training images", low=1)
    batch_size: int = option("optimisation", 128, "images of a step, over all processes; APR-P shows each twice", low=1)
    lr_steps: tuple[int, ...] = option("optimisation", (60, 120, 160, 190), "epochs after which it falls", low=0)
    lr_factor: float = option("optimisation", 0.2, "what it is multiplied by there", low=0, high=1)
    weight_decay: float = option("optimisation", 5e-4, "of SGD, on every parameter", low=0)

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
            Spectrum.parse(self.spectrum, self.radii)
        if self.in_chans == 1 and (self.spectrum or self.adversarial != "none"):
            raise InputError("--in-chans 1 does not go with --spectrum nor --adversarial, which work on colour images")
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
        if self.phase_weight != 1:
            raise InputError("--adversarial attacks one label: it does not go with --phase-weight")
        if self.amp == "fp16":
            raise InputError("--adversarial needs gradients too small for fp16: use --amp bf16 or none")
