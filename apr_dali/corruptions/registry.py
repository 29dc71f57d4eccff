"""All corruptions by name."""

from __future__ import annotations

from apr_dali.corruptions import blur, color, digital, elastic, fog, frost, noise, snow, spatter
from apr_dali.corruptions.parameters import SETS, SEVERITIES, TABLES
from apr_dali.corruptions.record import Corruption, Parameters
from apr_dali.errors import InputError

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
)
_BY_NAME = {record.name: record for record in _RECORDS}


def find(name: str, severity: int = 1, parameter_set: str = "imagenet") -> tuple[Corruption, Parameters]:
    """The corruption of that name and its parameters; InputError names what there is."""
    if name not in _BY_NAME:
        raise InputError(f"no corruption is named {name!r}: there are {', '.join(NAMES)}")
    if parameter_set not in SETS:
        raise InputError(f"no set of parameters is named {parameter_set!r}: there are {', '.join(SETS)}")
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise InputError(f"severity must be a whole number from 1 to 5, got {severity!r}")
    return _BY_NAME[name], TABLES[parameter_set][name][int(severity) - 1]
