"""Which scores there are, by their published names, and their parameters: OpenOOD v1.5's.

Source: https://github.com/Jingkang50/OpenOOD, `configs/postprocessors/NAME.yml`: `postprocessor_args` are the values
that a score has without a search, `postprocessor_sweep` those that a search on validation sets goes through. There
max-softmax is msp, max-logit mls, energy ebo, and mahalanobis mds; the temperature of ebo and the percentile of dice
have sweeps of one value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import ModuleType

from apr_dali.errors import InputError, check_choice, install_command
from apr_dali.eval import ood

Parameters = Mapping[str, float]
"""By name."""
_PERCENTILES = (65, 70, 75, 80, 85, 90, 95)


@dataclass(frozen=True)
class Kind:
    """What a score is, and what it needs beside logits.

    paper: for people. text: of the parameters, with their names in braces. default: their values without a search.
    sweep: those that a search goes through. features, gradients: of the network. fitted: to training images. library:
    whether it is pytorch-ood's.
    """

    paper: str
    text: str = ""
    default: Parameters = field(default_factory=dict)
    sweep: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    features: bool = False
    gradients: bool = False
    fitted: bool = False
    library: bool = False

    def says(self, parameters: Parameters | None = None) -> str:
        """The parameters for people; the default ones without any."""
        return self.text.format(**(self.default if parameters is None else parameters))

    @property
    def candidates(self) -> list[Parameters]:
        """All of the sweep in OpenOOD's order, in which the first parameter changes first."""
        names = list(self.sweep)
        backwards = product(*(self.sweep[name] for name in reversed(names)))
        return [dict(zip(names, reversed(values), strict=True)) for values in backwards] if names else []


KINDS = {
    "max-softmax": Kind("Hendrycks and Gimpel, 2017"),
    "max-logit": Kind("Hendrycks et al., 2022"),
    "energy": Kind("Liu et al., 2020", "temperature 1"),
    "gen": Kind(
        "Liu et al., 2023",
        "power {power:g}, the {top:g} greatest probabilities",
        {"power": 0.1, "top": 100},
        {"power": (0.01, 0.1, 0.5, 1, 2, 5, 10), "top": (10, 50, 100, 200, 500, 1000)},
    ),
    "odin": Kind(
        "Liang et al., 2018",
        "temperature {temperature:g}, step {step:g} of pixels in 0..1",
        {"temperature": 1000, "step": 0.0014},
        {"temperature": (1, 10, 100, 1000), "step": (0.0014, 0.0028)},
        gradients=True,
        library=True,
    ),
    "react": Kind(
        "Sun et al., 2021",
        "percentile {percentile:g}",
        {"percentile": 90},
        {"percentile": (85, 90, 95, 99)},
        features=True,
        fitted=True,
        library=True,
    ),
    "dice": Kind(
        "Sun and Li, 2022", "{percentile:g} % of the weights left out", {"percentile": 90}, features=True, fitted=True
    ),
    "ash": Kind(
        "Djurisic et al., 2023",
        "ASH-B, percentile {percentile:g}",
        {"percentile": 90},
        {"percentile": _PERCENTILES},
        features=True,
        library=True,
    ),
    "scale": Kind(
        "Xu et al., 2024",
        "percentile {percentile:g}",
        {"percentile": 85},
        {"percentile": _PERCENTILES},
        features=True,
        library=True,
    ),
    "vim": Kind(
        "Wang et al., 2022",
        "{dimensions:g} principal dimensions, half of them all where there are no more",
        {"dimensions": 256},
        {"dimensions": (256, 1000)},
        features=True,
        fitted=True,
    ),
    "knn": Kind(
        "Sun et al., 2022",
        "{neighbors:g} neighbors",
        {"neighbors": 50},
        {"neighbors": (50, 100, 200, 500, 1000)},
        features=True,
        fitted=True,
    ),
    "mahalanobis": Kind("Lee et al., 2018", "of the last features, no step", features=True, fitted=True),
}
"""By their names, in the order of tables."""
DEFAULT = tuple(ood.SCORES)
REACT = "react"
"""The one that is fitted to validation images of the network's classes where there are any, as OpenOOD does."""


def checked_scores(
    names: Sequence[str] | None, fit_data: object, logits_only: bool = False, val_data: object = None
) -> tuple[str, ...]:
    """The scores that are asked for, in the order of KINDS; `all` for all of them, None for the usual three.

    Args:
        fit_data: the images that some are fitted to, None for none. logits_only: others cannot be computed.
        val_data: validation images of the network's classes, None for none; REACT is fitted to them.

    Raises:
        InputError: for an unknown name, scores that need what is not there, or `fit_data` that none needs.
    """
    if names is not None and not names:
        raise InputError(f"scores names none: expected some of all, {', '.join(KINDS)}")
    asked = DEFAULT if names is None else tuple(KINDS) if "all" in names else tuple(names)
    for name in asked:
        check_choice("scores", name, ("all", *KINDS))
    chosen = tuple(name for name in KINDS if name in asked)
    fitted = fitted_to_training(chosen, val_data)
    if fitted and fit_data is None:
        raise InputError(f"{', '.join(fitted)} are fitted to training images: give --fit-data, or leave them out")
    if fit_data is not None and not fitted:
        named = ", ".join(chosen)
        raise InputError(f"--fit-data changes nothing for {named}: none is fitted to training images; leave it out")
    if logits_only and (others := [name for name in chosen if KINDS[name].features]):
        raise InputError(f"{', '.join(others)} are of all classes' features: leave them out of --imagenet-o")
    if any(KINDS[name].library for name in chosen):
        detectors()
    return chosen


def fitted_to_training(names: Collection[str], val_data: object) -> list[str]:
    """Those of `names` that are fitted to training images, where there are validation images, or None."""
    elsewhere = () if val_data is None else (REACT,)
    return [name for name in names if KINDS[name].fitted and name not in elsewhere]


def searched(names: Collection[str]) -> list[str]:
    """Those of `names` that have parameters to search for."""
    return [name for name in names if KINDS[name].sweep]


def detectors() -> ModuleType:
    """pytorch-ood's; InputError where it is missing."""
    try:
        from pytorch_ood import detector
    except ImportError as error:
        raise InputError(f"odin, react, ash and scale need pytorch-ood: {install_command('eval')}") from error
    return detector
