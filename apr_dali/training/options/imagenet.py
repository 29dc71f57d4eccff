"""The options of train_imagenet.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apr_dali.errors import InputError
from apr_dali.recipes import CROP_PCT, CROP_RATIO, CROP_SCALE, HW_DECODER_LOAD, ON_ERROR, check_crop
from apr_dali.training.options.common import TrainingOptions
from apr_dali.training.options.declare import MISSING_CLASSES, option
from apr_dali.training.options.recipes import IMAGENET_RECIPES
from apr_dali.training.sizes import Sizes

CHECKS = ("quick", "full", "off")
BEST_BY = ("top1", "corrupted")
_SMALLEST = 8
"""Pixels per side."""


@dataclass(frozen=True)
class ImageNetOptions(TrainingOptions):
    """The options of train_imagenet.py."""

    recipe: str = option(
        "run",
        "published",
        f"defaults of the other options: {', '.join(IMAGENET_RECIPES)}; help prints what each sets",
        choices=tuple(IMAGENET_RECIPES),
        metavar="NAME|help",
    )
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
    allow_missing_classes: bool = option("data", False, MISSING_CLASSES)
    image_size: int = option("data", 224, "height and width that the network sees", low=_SMALLEST)
    progressive: tuple[str, ...] = option(
        "data",
        (),
        "size of training images at some epochs, the last one --image-size; linear in between, by steps of 32",
        metavar="SIZE:EPOCH",
    )
    val_size: int = option("data", 0, "height and width in validation; 0 takes --image-size", low=0)
    val_crop: float = option(
        "data",
        CROP_PCT,
        "crop in validation, as a share of the scaled image's shorter side",
        low=0.1,
        high=1,
    )
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

    @property
    def sizes(self) -> Sizes:
        """The size of training images by the epoch."""
        if not self.progressive:
            return Sizes((self.image_size,), (0,))
        return Sizes.parse(self.progressive, "--progressive")

    @property
    def all_sizes(self) -> tuple[int, ...]:
        """Every size in pixels that the network sees in this run, that of validation last."""
        return (*sorted({self.sizes.at(epoch) for epoch in range(self.epochs)}), self.val_size or self.image_size)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.progressive and not self.eval_only:
            self._check_sizes(self.sizes)
        if 0 < self.val_size < _SMALLEST:
            raise InputError(f"--val-size must be 0 or at least {_SMALLEST}, got {self.val_size}")
        check_crop(self.scale, self.ratio, self.hflip, "--")
        self._check_corrupted()
        self._check_weights()
        if self.on_error == "skip" and self.check == "full":
            raise InputError("--check full stops at broken images and --on-error skip leaves them out: choose one")
        if not self.data and not (self.val and (self.train or self.eval_only)):
            raise InputError(
                "no data: give --data DIR with DIR/train and DIR/val, --data sample for the built-in photographs, "
                "or --train DIR with --val DIR"
            )

    def _check_sizes(self, sizes: Sizes) -> None:
        if sizes.sizes[-1] != self.image_size:
            raise InputError(
                f"--progressive ends at {sizes.sizes[-1]} pixels, --image-size is {self.image_size}: give the same"
            )
        if sizes.epochs[-1] >= self.epochs:
            raise InputError(
                f"--progressive reaches its last size in epoch {sizes.epochs[-1]}, counted from 0, and --epochs is "
                f"{self.epochs}: end it earlier"
            )

    def _check_weights(self) -> None:
        if not self.train_weights or self.eval_only:
            return
        sources = bool(self.data) + len(self.train)
        if self.sampler != "shuffle":
            raise InputError(f"--train-weights does not go with --sampler {self.sampler}: leave one of them out")
        if len(self.train_weights) != sources or sources < 2:
            raise InputError(
                f"--train-weights must have a number for each of several sources, --data and every --train: got "
                f"{len(self.train_weights)} for {sources}"
            )
        if not any(self.train_weights) or not all(map(math.isfinite, self.train_weights)):
            given = " ".join(f"{weight:g}" for weight in self.train_weights)
            raise InputError(f"--train-weights must be finite and not all 0, got {given}")

    def _check_corrupted(self) -> None:
        if not self.validate_corrupted:
            if self.best_by == "corrupted":
                raise InputError("--best-by corrupted needs --validate-corrupted N")
            return
        if self.in_chans == 1:
            raise InputError("--validate-corrupted does not go with --in-chans 1: the corruptions are of color images")
        if self.on_error == "skip":
            raise InputError("--validate-corrupted does not go with --on-error skip: it needs images that are whole")
