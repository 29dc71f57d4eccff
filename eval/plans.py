"""What a benchmark looks for below a folder and runs on what is there, by the classes of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from apr_dali.data.arrays import DIGITS
from apr_dali.eval.evaluations.autoattack import evaluate_autoattack
from apr_dali.eval.evaluations.calibration import evaluate_calibration
from apr_dali.eval.evaluations.clean import evaluate_clean
from apr_dali.eval.evaluations.corruption import evaluate_corruption
from apr_dali.eval.evaluations.corruption_on_the_fly import evaluate_corruption_on_the_fly
from apr_dali.eval.evaluations.distribution_shift import SHIFTS, evaluate_shift
from apr_dali.eval.evaluations.ood import evaluate_ood
from apr_dali.eval.evaluations.openood import evaluate_openood
from apr_dali.eval.evaluations.perturbation import evaluate_perturbation
from apr_dali.eval.load_model import Network
from apr_dali.eval.ood_sources import PHOTOGRAPHS
from apr_dali.eval.result import Result
from apr_dali.eval.session import Session


@dataclass(frozen=True)
class Wanted:
    """A set below the data root. places: where it is looked for, the first that is there is taken. looks: its form."""

    name: str
    places: tuple[str, ...]
    looks: str


_CLASS_FOLDERS = "<class>/<image>"
_OPENOOD = Wanted("openood", ("openood", "OpenOOD/data"), "OpenOOD's benchmark_imglist and folders of images")
_CORRUPTED = "<corruption>/<1-5>/<class>/<image>"
_IMAGENET = (
    Wanted("val", ("val", "imagenet/val", "imagenet-val"), _CLASS_FOLDERS),
    Wanted("corruption", ("imagenet-c", "ImageNet-C"), _CORRUPTED),
    Wanted("imagenet-c-bar", ("imagenet-c-bar", "ImageNet-C-bar", "imagenet-c_bar"), _CORRUPTED),
    Wanted("imagenet-3dcc", ("imagenet-3dcc", "ImageNet-3DCC", "imagenet_3dcc"), _CORRUPTED),
    Wanted("laion-c", ("laion-c", "LAION-C"), "<distortion>/intensity_level_<1-5>/<superclass>/<image>"),
    Wanted("imagenet-p", ("imagenet-p", "ImageNet-P"), "<perturbation>/<class>/<video>.mp4"),
    Wanted("imagenet-o", ("imagenet-o",), "<class>/<image> of 200 classes"),
    Wanted("imagenet-a", ("imagenet-a",), "<class>/<image> of 200 classes"),
    Wanted("imagenet-r", ("imagenet-r",), "<class>/<image> of 200 classes"),
    Wanted("imagenet-sketch", ("imagenet-sketch", "sketch"), _CLASS_FOLDERS),
    _OPENOOD,
    Wanted("imagenet-v2", ("imagenet-v2", "imagenetv2-matched-frequency-format-val"), "<number of class>/<image>"),
)
_SMALL_OOD = (
    Wanted("SVHN", ("SVHN/test_32x32.mat", "svhn/test_32x32.mat", "test_32x32.mat"), "the published .mat file"),
    *(
        Wanted(name, (name,), "32×32 image files")
        for name in ("LSUN_resize", "Imagenet_resize", "LSUN_fix", "Imagenet_fix")
    ),
)


_ARCHIVES = {
    "cifar-10": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
    "cifar-100": ("cifar-100-python", "cifar-100-python.tar.gz"),
}
_CIFARS = {name: Wanted(name, places, "CIFAR's published files") for name, places in _ARCHIVES.items()}


def _cifar_sets(own: str, other: str) -> tuple[Wanted, ...]:
    return (
        Wanted("test", (*_ARCHIVES[own], "val"), "CIFAR's published files"),
        Wanted("corruption", (own.upper() + "-C",), "<corruption>.npy and labels.npy"),
        Wanted("cifar-c-bar", (own.upper() + "-C-bar",), "<corruption>.npy and labels.npy"),
        *_SMALL_OOD,
        _CIFARS[other],
        _OPENOOD,
    )


Found = dict[str, str]
"""The places of sets by their names."""


@dataclass(frozen=True)
class Job:
    """An evaluation of a benchmark.

    needs: sets that it runs on; `attack` where images are to be attacked, `others` where there are sets that the
    network does not know, `on the fly` where clean images are to be corrupted for want of a corrupted set.
    """

    name: str
    needs: tuple[str, ...]
    run: Callable[[Session, Found, int | None], Result]


ON_THE_FLY = "on the fly"


def others(found: Found) -> Found:
    """The sets of `found` that a small network does not know."""
    return {name: path for name, path in found.items() if name not in ("test", "corruption", "cifar-c-bar", "openood")}


def _beside(name: str) -> Job:
    """Another corrupted set beside ImageNet-C or CIFAR-C."""
    return Job(name, (name,), lambda session, found, _: evaluate_corruption(session, found[name], evaluation=name))


_OPENOOD_JOB = Job("openood", ("openood",), lambda session, found, _: evaluate_openood(session, found["openood"]))
_JOBS = (
    Job("clean", ("val",), lambda session, found, _: evaluate_clean(session, found["val"])),
    Job(
        "corruption",
        ("corruption",),
        lambda session, found, _: evaluate_corruption(session, found["corruption"], clean=found.get("val")),
    ),
    Job(
        "corruption",
        ("val", ON_THE_FLY),
        lambda session, found, _: evaluate_corruption_on_the_fly(session, found["val"], clean=found["val"]),
    ),
    *map(_beside, ("imagenet-c-bar", "imagenet-3dcc", "laion-c")),
    Job("perturbation", ("imagenet-p",), lambda session, found, _: evaluate_perturbation(session, found["imagenet-p"])),
    *(
        Job(name, (name,), lambda session, found, _, name=name: evaluate_shift(session, found[name], set=name))  # type: ignore[misc]
        for name in SHIFTS
    ),
    Job(
        "imagenet-o",
        ("val", "imagenet-o"),
        lambda session, found, _: evaluate_ood(
            session, found["val"], ood={"ImageNet-O": found["imagenet-o"]}, imagenet_o=True
        ),
    ),
    _OPENOOD_JOB,
    Job("calibration", ("val",), lambda session, found, _: evaluate_calibration(session, found["val"])),
    Job(
        "autoattack",
        ("val", "attack"),
        lambda session, found, limit: evaluate_autoattack(session, found["val"], epsilon=4 / 255, limit=limit),
    ),
)
_SMALL_JOBS = (
    Job("corruption", ("corruption",), lambda session, found, _: evaluate_corruption(session, found["corruption"])),
    Job(
        "corruption",
        ("test", ON_THE_FLY),
        lambda session, found, _: evaluate_corruption_on_the_fly(session, found["test"]),
    ),
    _beside("cifar-c-bar"),
    Job("clean", ("test",), lambda session, found, _: evaluate_clean(session, found["test"])),
    Job("ood", ("test", "others"), lambda session, found, _: evaluate_ood(session, found["test"], ood=others(found))),
    _OPENOOD_JOB,
    Job("calibration", ("test",), lambda session, found, _: evaluate_calibration(session, found["test"])),
    Job(
        "autoattack",
        ("test", "attack"),
        lambda session, found, limit: evaluate_autoattack(session, found["test"], limit=limit),
    ),
)


@dataclass(frozen=True)
class Plan:
    """What a benchmark looks for and runs. clean: what the set of clean images is called. words: sets without files."""

    wanted: tuple[Wanted, ...]
    jobs: tuple[Job, ...]
    clean: str = "test"
    words: Found = field(default_factory=dict)


_OWN_SMALL = (
    Wanted("test", ("val",), _CLASS_FOLDERS),
    Wanted("corruption", ("corruptions",), _CORRUPTED),
    *_SMALL_OOD,
    *_CIFARS.values(),
)
_WORDS = {"test": DIGITS, "corruption": DIGITS, PHOTOGRAPHS: PHOTOGRAPHS}
_PLANS = {
    "imagenet": Plan(_IMAGENET, _JOBS, "val"),
    "cifar10": Plan(_cifar_sets("cifar-10", "cifar-100"), _SMALL_JOBS),
    "cifar100": Plan(_cifar_sets("cifar-100", "cifar-10"), _SMALL_JOBS),
    DIGITS: Plan((*_SMALL_OOD, *_CIFARS.values()), _SMALL_JOBS, words=_WORDS),
}
"""By the kind of a network's classes."""


def plan_of(network: Network) -> Plan:
    """The plan for a network of these classes."""
    if network.kind in _PLANS:
        return _PLANS[network.kind]
    # Classes of somebody's own, in the folders that ImageNet's are in.
    return Plan(_OWN_SMALL, _SMALL_JOBS) if network.takes_small else _PLANS["imagenet"]
