"""All augmentations by name. A file of this folder is imported when one of its augmentations is asked for."""

from __future__ import annotations

import importlib

from apr_dali.augmentations.record import Augmentation
from apr_dali.errors import InputError
from apr_dali.recipes import CIFAR_AUGMENTATIONS

_MODULE_OF = {
    "amplitude-mix": "amplitude_mix",
    "fda": "fda",
    "hybrid-p": "hybrid_pair",
    "hybrid++-p": "hybrid_pair",
    "hybrid-s": "hybrid_single",
    "hybrid++-s": "hybrid_single",
    "afa": "afa",
    "vipaug-g": "vipaug",
    "spectral-gains": "spectral_gains",
    "amplitude-rescale": "spectral_gains",
    "phase-shift": "spectral_gains",
    "frequency-mask": "spectral_gains",
    "gaussian-mask": "spectral_gains",
    "prime": "prime",
    "randconv": "randconv",
}
NAMES = tuple(_MODULE_OF)
"""Those of this package."""

COMBINATIONS = {
    "hybrid-ps": ("hybrid-s", "hybrid-p"),
    "hybrid++-ps": ("hybrid++-s", "hybrid++-p"),
    "vipaug": ("vipaug-g", "apr-p"),
}
"""Names of several stages, in their order: those of single images on levels, where `apr_dali.single` stands, those of a
batch where `apr_dali.pair` does. "apr-p" is that one."""

PARALLEL = {"afa+prime": ("prime", "afa")}
"""Names of several views of an image, each made of the clean one; AFA's is the auxiliary one."""

_TAKEN = {*NAMES, *COMBINATIONS, *PARALLEL, *CIFAR_AUGMENTATIONS}

_added: dict[str, Augmentation] = {}


def registered() -> tuple[str, ...]:
    """Names of those from elsewhere."""
    return tuple(_added)


def find(name: str | Augmentation) -> Augmentation:
    """The augmentation of that name, or the one that is given; InputError names what there is."""
    if isinstance(name, Augmentation):
        return name
    if not isinstance(name, str):
        raise InputError(f"an augmentation is a name or an Augmentation, got {name!r}")
    if name in _added:
        return _added[name]
    if name in COMBINATIONS:
        raise InputError(f"{name} has the stages {' and '.join(COMBINATIONS[name])}: apply one after the other")
    if name in PARALLEL:
        raise InputError(f"{name} gives the views {' and '.join(PARALLEL[name])}: apply each to the clean images")
    if name not in _MODULE_OF:
        raise InputError(f"no augmentation is named {name!r}: there are {', '.join((*NAMES, *_added))}")
    module = importlib.import_module(f"apr_dali.augmentations.{_MODULE_OF[name]}")
    return next(each for each in module.AUGMENTATIONS if each.name == name)


def stages(name: str) -> tuple[str, ...]:
    """The stages of an augmentation, itself alone unless it is one of COMBINATIONS."""
    if name in COMBINATIONS:
        return COMBINATIONS[name]
    return (find(name).name,)


def register(augmentation: Augmentation) -> Augmentation:
    """Make an augmentation from elsewhere known by its name in this process; gives it back.

    One whose class of draws was defined anew, by a notebook's cell or a module that ran again, takes the place of the
    former. Raises InputError for a name that another one has.
    """
    name = augmentation.name
    known = _added.get(name, augmentation)
    if name in _TAKEN or (known is not augmentation and not _ran_again(known.draws, augmentation.draws)):
        raise InputError(f"there is an augmentation named {name!r} already: give yours another name")
    _added[name] = augmentation
    return augmentation


def _ran_again(former: type, draws: type) -> bool:
    """Whether two classes are of one definition."""
    place, again = ((kind.__module__, kind.__qualname__) for kind in (former, draws))
    return draws is not former and place == again
