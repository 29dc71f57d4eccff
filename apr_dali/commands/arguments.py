"""Arguments that several commands have, and the types of their values. Imports nothing heavy: --help is quick."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence

from apr_dali.errors import InputError
from apr_dali.recipes import FILTERS
from apr_dali.runtime import cpus

_SEEDS = 2**32  # scikit-learn's


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Declare --processes, as many as this process may use cores by default."""
    parser.add_argument(
        "--processes",
        type=positive,
        default=cpus.usable(),
        metavar="N",
        help="that work at once (default: the %(default)s usable cores)",
    )


def add_corruptions(parser: argparse._ActionsContainer) -> None:
    """Declare --corruptions and --set, of which one says what is made; see `apr_dali.corruptions.corruptions_of`."""
    parser.add_argument("--corruptions", nargs="+", metavar="NAME", help="only these (default: those of --set)")
    parser.add_argument(
        "--set",
        choices=("c", "c-bar"),
        help="c: the 15 of ImageNet-C; c-bar: the 10 of ImageNet-C-bar, of 32×32 images CIFAR-10-C-bar's (default: c)",
    )


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """A whole number that every generator takes: those of torch, NumPy and scikit-learn."""
    if not text.isdecimal() or int(text) >= _SEEDS:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to {_SEEDS - 1}, got {text!r}")
    return int(text)


def named_paths(option: str, given: Sequence[str], taken: Collection[str] = ()) -> dict[str, str]:
    """The paths of `NAME=PATH`, … by name; InputError for another form, a name given twice or one of `taken`."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise InputError(f"{option} expects NAME=PATH, each name once, got {text!r}")
        if name in found or name in taken:
            raise InputError(f"{option} expects NAME=PATH, each name once, got {text!r}: another set is called {name}")
        found[name] = path
    return found


def add_network(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """The arguments of `open_session`. optional: MODEL may be left out, see `analyses.common`."""
    known = (
        "a checkpoint; a torchvision or timm model by its exact name; FILE.py:FUNCTION; the latter two with :WEIGHTS"
    )
    instead = "; without it a small network, trained on digits in half a minute and kept in the output folder"
    folder = "runs/analyze-digits, or runs/eval-MODEL" if optional else "runs/eval-MODEL"
    parser.add_argument("model", metavar="MODEL", nargs="?" if optional else None, help=known + instead * optional)
    parser.add_argument(
        "--weights", metavar="FILE", help="of the named model: a file, FILE:ENTRY, or a version such as IMAGENET1K_V1"
    )
    parser.add_argument(
        "--classes", metavar="PATH", help="names of its classes: a folder of class folders, or a text or JSON file"
    )
    parser.add_argument("--image-size", type=positive, metavar="N", help="pixels (default: what it was trained at)")
    for name, what in (("mean", "of the normalization of values in 0..1"), ("std", "the same")):
        parser.add_argument(
            f"--{name}", type=float, nargs=3, metavar=("R", "G", "B"), help=f"{what} (default: what MODEL says)"
        )
    parser.add_argument("--crop-pct", type=float, metavar="P", help="crop by scaled side (default: MODEL's)")
    parser.add_argument("--interpolation", choices=FILTERS, help="that images are scaled with (default: MODEL's)")
    parser.add_argument("--output", metavar="DIR", help=f"folder for results and state (default: {folder})")
    parser.add_argument(
        "--batch-size", type=positive, default=128, metavar="N", help="per process (default: %(default)s)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="data threads per process (default: chosen)")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--amp", choices=("none", "bf16", "fp16"), help="(default: what it was trained with, or none)")
    if not optional:
        add_components(parser)


def add_components(parser: argparse.ArgumentParser, label: str | None = None) -> None:
    """Declare which members of tars are images and labels. label: the latter's default, None where no tar may come."""
    parser.add_argument("--tar-image", metavar="EXT", help="the image in a tar's samples (default: the only one)")
    parser.add_argument(
        "--tar-label", metavar="EXT", default=label, help="the label in them, json:FIELD of one in JSON (default: cls)"
    )
