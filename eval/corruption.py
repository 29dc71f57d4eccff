"""Error under corruptions: ImageNet-C and its like, CIFAR-10-C and CIFAR-100-C, and the C-bar of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from apr_dali.corruptions import C_BAR, CIFAR_C_BAR
from apr_dali.errors import InputError, check_choice
from apr_dali.eval.laion_c import DISTORTIONS

SEVERITIES = (1, 2, 3, 4, 5)
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
"""The 15 of the benchmark (Hendrycks and Dietterich, 2019), in the order of its tables."""
EXTRA_CORRUPTIONS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Meant for tuning: never part of the mean over the 15."""
C_BARS = {"ImageNet-C-bar": C_BAR, "CIFAR-10-C-bar": CIFAR_C_BAR}
"""The 10 of each (Mintun, Kirillov and Xie, 2021), chosen to be unlike the 15: never part of the mean over these."""
THREE_D = (
    *("near_focus", "far_focus", "fog_3d", "flash", "color_quant", "low_light"),
    *("xy_motion_blur", "z_motion_blur", "iso_noise", "bit_error", "h265_abr", "h265_crf"),
)
"""The 12 of ImageNet-3DCC (Kar et al., 2022), made with the depth of the scene."""
OTHERS = {"ImageNet-3DCC": THREE_D, "LAION-C": DISTORTIONS}
"""Sets whose corruptions are none of the 15 nor C-bar's."""

ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's error rate on ImageNet-C, mean over the severities, 0..1 (google-research/augmix, imagenet.py)."""
ALEXNET_CLEAN = 0.43478
"""The error rate of the same AlexNet, torchvision's, on ImageNet-val, 0..1 (56.522 % top-1)."""

CELLS = {
    "imagenet-c": 50_000,
    "generated": 50_000,
    "cifar-10-c": 10_000,
    "cifar-100-c": 10_000,
    "imagenet-c-bar": 50_000,
    "imagenet-3dcc": 50_000,
    "cifar-10-c-bar": 10_000,
}
"""Images in a cell of a published set, one corruption at one severity; `generated`: of what `apr-dali make-c` makes of
ImageNet's validation images, which is not ImageNet-C."""
KINDS = (*CELLS, "imagenet-c-listed", "imagenet-3dcc-listed", "laion-c", "digits", "own")
"""A published set as a whole, the generated one, the images of a list of a published one, LAION-C, digits corrupted by
`apr_dali.data.small_corruptions`, or any other set. The numbers of the last two compare with no published ones."""
COMPUTED = "computed on the fly, exact to 1 level given the draws; the published set has other draws"
"""What is said of errors on images that `apr_dali.eval.on_the_fly` has made, wherever they are shown."""
_NORMALIZED = {"imagenet-c": "", "generated": "generated_", "imagenet-c-listed": "listed_"}


def mce(errors: Mapping[str, Sequence[float]]) -> float:
    """The mean corruption error in percent: AlexNet has 100.

    The mean over the 15 corruptions of 100 × (mean error over the severities) / AlexNet's (Hendrycks and Dietterich,
    2019, section 4; AlexNet's errors as in AugMix).

    Args:
        errors: for each of CORRUPTIONS, the error rates at severity 1 to 5, 0..1. Other corruptions are not counted.

    Raises:
        InputError: if a corruption is missing or an error rate is not in 0..1.
    """
    return _mean(corruption_errors(_checked(errors)).values())


def corruption_errors(errors: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The corruption error CE of those of the 15 corruptions that `errors` has, in percent: AlexNet has 100 in each."""
    return {name: 100 * _mean(errors[name]) / ALEXNET[name] for name in CORRUPTIONS if name in errors}


def relative_mce(errors: Mapping[str, Sequence[float]], clean_error: float) -> float:
    """The relative mean corruption error in percent: how much worse than on clean images, against AlexNet's loss.

    Args:
        errors: as for `mce`.
        clean_error: of the same network on the clean images, 0..1.
    """
    rows = _checked({"clean": [clean_error] * len(SEVERITIES), **errors})
    return 100 * _mean((_mean(rows[name]) - clean_error) / (ALEXNET[name] - ALEXNET_CLEAN) for name in CORRUPTIONS)


def mean_error(
    errors: Mapping[str, Sequence[float]], names: Iterable[str] = CORRUPTIONS, severities: int = len(SEVERITIES)
) -> float:
    """The error rate over `names` and severities, not normalized, 0..1: what CIFAR-10-C's tables give."""
    names = tuple(names)
    rows = _checked(errors, names, severities)
    return _mean(_mean(rows[name]) for name in names)


@dataclass(frozen=True)
class CorruptionTable:
    """Error rates by corruption and severity, and what follows from them.

    errors: for each corruption the error rates at each of `severities`, 0..1.
    images: how many each cell was measured on, all alike.
    clean_error: on the clean images, 0..1; None where not measured.
    kind: of KINDS.
    clean_images: how many clean images there were; 0 where not measured.
    severities: that were measured; a published set has all five.
    ece, rms: calibration errors of the same cells, 0..1, see `apr_dali.eval.calibration`; empty where not measured, the
    latter where there are fewer images than its bins take.
    intervals: of numbers by their names in `summary`, and of `errors` by corruption; see `apr_dali.eval.bootstrap`.

    Raises InputError for a kind that is not of KINDS, or whose cells have another number of images or severities.
    """

    errors: Mapping[str, tuple[float, ...]]
    images: int
    clean_error: float | None = None
    kind: str = "own"
    clean_images: int = 0
    severities: tuple[int, ...] = SEVERITIES
    ece: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rms: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    intervals: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        if self.kind in CELLS and self.severities != SEVERITIES:
            raise InputError(f"{self.kind} has the severities 1 to 5, got {list(self.severities)}: call it own")
        if self.images != CELLS.get(self.kind, self.images):
            raise InputError(f"{self.kind} has {CELLS[self.kind]:,} images per cell, got {self.images:,}: call it own")

    @property
    def averaged(self) -> tuple[str, ...]:
        """The corruptions that `mean_error` is over: those of the 15 that are there, else C-bar's, else all.

        Those of digits are others, whatever their names.
        """
        if self.kind == "digits":
            return tuple(self.errors)
        return tuple(name for name in CORRUPTIONS if name in self.errors) or self.c_bar or tuple(self.errors)

    @property
    def c_bar(self) -> tuple[str, ...]:
        """The corruptions of ImageNet-C-bar or CIFAR-10-C-bar that are there."""
        return () if self.kind == "digits" else c_bar_names(self.errors)

    def summary(self) -> dict[str, Any]:
        """`mean_error`, `mean_ece` and `mean_rms`, 0..1, over `averaged`; for ImageNet-C also its corruption errors.

        `c_bar_error`, 0..1, is the mean over C-bar's corruptions, where there are any: not normalized, as published.
        `ce` by corruption, and with all 15 of them `mce` and `relative_mce`, in percent; the last with the clean
        images of the same set alone. For a generated set they are called `generated_ce` and so on, for the images of a
        list `listed_ce`. AlexNet's errors mean nothing for CIFAR or other classes.
        """
        found: dict[str, Any] = {"mean_error": self._mean_of(self.errors)}
        for name, rows in (("mean_ece", self.ece), ("mean_rms", self.rms)):
            if rows:
                found[name] = self._mean_of(rows)
        if self.c_bar:
            found["c_bar_error"] = mean_error(self.errors, self.c_bar, len(self.severities))
        if self.kind not in _NORMALIZED or self.averaged == self.c_bar:
            return found
        prefix = _NORMALIZED[self.kind]
        found[prefix + "ce"] = corruption_errors(self.errors)
        if set(CORRUPTIONS) <= set(self.errors):
            found[prefix + "mce"] = mce(self.errors)
            if self.clean_error is not None and self.clean_images == self.images:
                found[prefix + "relative_mce"] = relative_mce(self.errors, self.clean_error)
        return found

    def _mean_of(self, rows: Mapping[str, Sequence[float]]) -> float:
        return mean_error(rows, self.averaged, len(self.severities))

    def as_json(self) -> dict[str, Any]:
        """The table and what follows from it, as JSON has it."""
        calibration = {"ece": self.ece, "rms": self.rms}
        return {
            "errors": {name: list(row) for name, row in self.errors.items()},
            "averaged": list(self.averaged),
            "severities": list(self.severities),
            "images": self.images,
            "clean_error": self.clean_error,
            "clean_images": self.clean_images,
            "kind": self.kind,
            **self.summary(),
            **{key: {name: list(row) for name, row in rows.items()} for key, rows in calibration.items() if rows},
            **({"intervals": dict(self.intervals)} if self.intervals else {}),
        }


def c_bar_names(names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that are corruptions of ImageNet-C-bar or CIFAR-10-C-bar."""
    return tuple(name for name in names if any(name in each for each in C_BARS.values()))


def other_set(names: Iterable[str]) -> str | None:
    """Which of OTHERS has all of `names`; None where none has."""
    held = set(names)
    return next((title for title, of in OTHERS.items() if held and held <= set(of)), None)


def averaged_text(result: Mapping[str, Any]) -> str:
    """Which corruptions, and severities if not all, the mean error of a corruption result is over, in words."""
    return _at_severities(_corruptions_text(result), result)


def c_bar_text(result: Mapping[str, Any]) -> str | None:
    """The same of `c_bar_error`; None where that is not there, or `mean_error` itself."""
    names = c_bar_names(result["errors"]) if "c_bar_error" in result else ()
    return _at_severities(_c_bar_text(names), result) if names and list(names) != list(result["averaged"]) else None


def _at_severities(text: str, result: Mapping[str, Any]) -> str:
    severities = result.get("severities", SEVERITIES)  # those of version 0.1.0 have all
    if result.get("kind") == "digits" or tuple(severities) == SEVERITIES:
        return text
    return f"{text} at severity {', '.join(map(str, severities))}"


def _c_bar_text(names: Sequence[str]) -> str:
    fitting = [title for title, held in C_BARS.items() if set(names) <= set(held)]
    title = " or ".join(fitting or C_BARS)
    if fitting and len(names) == len(C_BARS[fitting[0]]):
        return f"all {len(names)} corruptions of {title}"
    return _part_text(names, C_BAR, title)


def _part_text(names: Sequence[str], whole: Sequence[str], title: str) -> str:
    return f"{len(names)} of {len(whole)} corruptions of {title} ({', '.join(names)})"


def _corruptions_text(result: Mapping[str, Any]) -> str:
    own = result["averaged"]
    if result.get("kind") == "digits":
        return f"{len(own)} corruptions made here"
    if own and c_bar_names(own) == tuple(own):
        return _c_bar_text(own)
    if title := other_set(own):
        whole = OTHERS[title]
        return f"all {len(whole)} corruptions of {title}" if len(own) == len(whole) else _part_text(own, whole, title)
    return _of_the_15(own)


def _of_the_15(own: Sequence[str]) -> str:
    of = len(CORRUPTIONS)
    if not set(own) <= set(CORRUPTIONS):
        return f"{', '.join(own)} (none of the benchmark's {of})"
    if len(own) == of:
        return f"all {of} corruptions"
    missing = [name for name in CORRUPTIONS if name not in own]
    if len(missing) < len(own):
        return f"{len(own)} of {of} corruptions (without {', '.join(missing)})"
    return f"{len(own)} of {of} corruptions ({', '.join(own)})"


def made_text(result: Mapping[str, Any]) -> str:
    """What stands before numbers of a corruption result that are made as ImageNet-C's are, of other images."""
    return COMPUTED if "computed" in result else "generated set"


def computed_text(result: Mapping[str, Any]) -> str:
    """How the images of a corruption result were made on the fly, in words."""
    made = result["computed"]
    part = f"{result['images']:,} of {made['of_images']:,} images, " if result["images"] < made["of_images"] else ""
    severities = "" if made["parameter_set"] == "imagenet" else f"severities of {made['parameter_set']}, "
    return f"{COMPUTED} ({part}{made['geometry']}, {severities}{made['form']}, seed {made['seed']})"


def _checked(
    errors: Mapping[str, Sequence[float]], names: Sequence[str] = CORRUPTIONS, severities: int = len(SEVERITIES)
) -> Mapping[str, Sequence[float]]:
    """`errors`, if all of `names` are there and all its rows are so many error rates."""
    missing = [name for name in names if name not in errors]
    if missing or not names:
        raise InputError(f"expected the errors of {len(names)} corruptions, missing: {', '.join(missing) or 'all'}")
    for name, row in errors.items():
        if len(row) != severities or not all(isfinite(value) and 0 <= value <= 1 for value in row):
            raise InputError(f"{name}: expected {severities} error rates in 0..1, got {list(row)}")
    return errors


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
