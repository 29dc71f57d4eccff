"""All corruptions by name."""

from __future__ import annotations

from collections.abc import Collection

from apr_dali.corruptions import blur, c_bar, color, digital, elastic, fog, frost, noise, snow, spatter
from apr_dali.corruptions.c_bar.parameters import C_BAR_TABLES
from apr_dali.corruptions.parameters import SETS, SEVERITIES, TABLES
from apr_dali.corruptions.record import Corruption, Parameters
from apr_dali.errors import InputError, check_choice

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""The 15 of the benchmark, in the order of its tables."""

EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 that are held out, for choosing between methods."""

NAMES = CORRUPTIONS + EXTRA

C_BAR = tuple(C_BAR_TABLES["imagenet"])
"""The 10 of ImageNet-C-bar, unlike those of ImageNet-C."""
CIFAR_C_BAR = tuple(C_BAR_TABLES["cifar"])
"""The 10 of CIFAR-10-C-bar, five of which ImageNet-C-bar has too."""
BENCHMARKS = ("c", "c-bar")

_RECORDS: tuple[Corruption, ...] = (
    noise.GAUSSIAN,
    noise.SHOT,
    noise.IMPULSE,
    blur.DEFOCUS,
    blur.GLASS,
    blur.MOTION,
    blur.ZOOM,
    snow.SNOW,
    frost.FROST,
    fog.FOG,
    color.BRIGHTNESS,
    color.CONTRAST,
    elastic.ELASTIC,
    digital.PIXELATE,
    digital.JPEG,
    noise.SPECKLE,
    blur.GAUSSIAN,
    spatter.SPATTER,
    color.SATURATE,
    *c_bar.RECORDS,
)
_BY_NAME = {record.name: record for record in _RECORDS}


def find(name: str, severity: int = 1, parameter_set: str = "imagenet") -> tuple[Corruption, Parameters]:
    """The corruption of that name and its parameters; InputError names what there is."""
    if not isinstance(name, str) or name not in _BY_NAME:
        raise InputError(f"no corruption is named {name!r}: there are {', '.join(_BY_NAME)}")
    if parameter_set not in SETS:
        raise InputError(f"no set of parameters is named {parameter_set!r}: there are {', '.join(SETS)}")
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise InputError(f"severity must be a whole number from 1 to 5, got {severity!r}")
    if name not in names_in(parameter_set):
        having = [each for each in SETS if name in names_in(each)]
        raise InputError(f"{name} has parameters of the set {' and '.join(having)}, none of {parameter_set}")
    table = TABLES[parameter_set] if name in NAMES else C_BAR_TABLES[parameter_set]
    return _BY_NAME[name], table[name][int(severity) - 1]


def names_in(parameter_set: str) -> tuple[str, ...]:
    """The corruptions that a set of parameters has."""
    return (*TABLES[parameter_set], *C_BAR_TABLES.get(parameter_set, ()))


def set_for(names: Collection[str]) -> str:
    """The first set of parameters that has all of these corruptions; "imagenet" where none has."""
    return next((each for each in SETS if set(names) <= set(names_in(each))), "imagenet")


def corruptions_of(which: str, parameter_set: str) -> tuple[str, ...]:
    """The names of a benchmark's corruptions: "c", the 15, or "c-bar", the 10 of ImageNet or CIFAR-10."""
    check_choice("the set of corruptions", which, BENCHMARKS)
    if which == "c":
        return CORRUPTIONS
    return tuple(C_BAR_TABLES[parameter_set])
