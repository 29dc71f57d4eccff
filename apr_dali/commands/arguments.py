"""The command line of `apr-dali eval`, `analyze` and `make-c`. Imports nothing heavy: --help is quick."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from apr_dali.commands import analyses
from apr_dali.errors import InputError
from apr_dali.recipes import FILTERS
from apr_dali.runtime import cpus

Parsers = Any
"""What argparse's add_subparsers returns."""
_SEEDS = 2**32  # scikit-learn's


def add_eval(commands: Parsers) -> None:
    """Add the command `eval` with one command below it for each evaluation."""
    parser = commands.add_parser("eval", help="measure accuracy and robustness of a network")
    kinds = parser.add_subparsers(title="evaluations", metavar="EVALUATION", required=True)
    for name, text, add in _EVALUATIONS:
        one = kinds.add_parser(name, help=text, description=text)
        add(one)
        one.set_defaults(run=_runner(name))


def add_analyze(commands: Parsers) -> None:
    """Add the command `analyze` with one command below it for each analysis."""
    parser = commands.add_parser("analyze", help="look at what a network sees, frequency by frequency")
    kinds = parser.add_subparsers(title="analyses", metavar="ANALYSIS", required=True)
    for name in analyses.NAMES:
        module = importlib.import_module(f"apr_dali.commands.analyses.{name}")
        one = kinds.add_parser(name, help=module.TEXT, description=module.TEXT)
        module.add(one)
        one.set_defaults(run=partial(_analyze, module))


def _analyze(module: ModuleType, args: argparse.Namespace) -> int:
    from apr_dali.runtime import exit_status

    return exit_status.run(lambda: module.run(args))


def add_make_c(commands: Parsers) -> None:
    """Add the command `make-c`."""
    text = "write a set like ImageNet-C from a folder of images; its numbers are not those of the published set"
    parser = commands.add_parser("make-c", help=text, description=text)
    parser.add_argument("source", metavar="VAL", help="folder of class folders")
    parser.add_argument("target", metavar="OUT", help="folder to write; a stopped command goes on there")
    parser.add_argument("--corruptions", nargs="+", metavar="NAME", help="only these (default: the 15 of ImageNet-C)")
    parser.add_argument("--image-size", type=positive, default=224, metavar="N", help="pixels (default: %(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of the noise (default: %(default)s)")
    add_processes(parser)
    parser.set_defaults(run=_make_c)


def _make_c(args: argparse.Namespace) -> int:
    from apr_dali.data.make_c import make_c

    print(make_c(args.source, args.target, args.corruptions, args.image_size, args.seed, args.processes))
    return 0


def _runner(name: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        from apr_dali.commands import evaluate

        return evaluate.run(name, args)

    return run


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Declare --processes, as many as this process may use cores by default."""
    parser.add_argument(
        "--processes",
        type=positive,
        default=cpus.usable(),
        metavar="N",
        help="(default: the %(default)s usable cores)",
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
        "--batch-size", type=positive, default=128, metavar="N", help="a process (default: %(default)s)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="data threads a process (default: chosen)")
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--amp", choices=("none", "bf16", "fp16"), help="(default: what it was trained with, or none)")
    if not optional:
        add_components(parser)


def add_components(parser: argparse.ArgumentParser) -> None:
    """Declare which members of tars are images and labels."""
    parser.add_argument("--tar-image", metavar="EXT", help="the image in a tar's samples (default: the only one)")
    parser.add_argument("--tar-label", metavar="EXT", help="the label in a tar's samples (default: cls)")


def _add_clean(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="VAL", help="folder of class folders")


def _add_corruption(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="ImageNet-C's folders, or CIFAR-C's .npy files; the word digits for digits that are corrupted now",
    )
    parser.add_argument("--clean", metavar="VAL", help="clean images too: for the relative mCE")


def _add_ood(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="VAL", help="in-distribution images")
    parser.add_argument(
        "--ood",
        required=True,
        nargs="+",
        metavar="NAME=PATH",
        help="sets that the network does not know: folders; for one of 32×32 images SVHN's test_32x32.mat, CIFAR's "
        "folder, and the words digits and photographs, for tiles of the built-in ones",
    )
    parser.add_argument(
        "--imagenet-o", action="store_true", help="score with the 200 classes of ImageNet-O alone, as its paper does"
    )


def _add_calibration(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="VAL", help="folder of class folders")


def _add_autoattack(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="VAL", help="images to attack")
    parser.add_argument("--version", default="standard", help="standard, plus, or one attack's name (%(default)s)")
    parser.add_argument("--norm", default="linf", help="linf, l2 or l1 (%(default)s)")
    parser.add_argument("--epsilon", type=_fraction, default=8 / 255, metavar="E", help="such as 8/255, the default")
    parser.add_argument("--limit", type=positive, metavar="N", help="only N images, evenly taken")
    parser.add_argument("--seed", type=seed, default=0, help="of the attacks (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the adversarial images, .npy files in 0..1")


def _add_shift(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument(
        "set", choices=("imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-v2"), help="which one --data holds"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of class folders")


def _add_all(parser: argparse.ArgumentParser) -> None:
    add_network(parser)
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder with val, imagenet-c, imagenet-a, … (a network of digits needs none)"
    )
    parser.add_argument(
        "--attack", type=positive, metavar="N", help="AutoAttack on N images: hours (default: none are attacked)"
    )


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="output folders of `eval all`")
    parser.add_argument("--output", default=".", metavar="DIR", help="for compare.html and compare.md (default: here)")


def _fraction(text: str) -> float:
    number, _, divisor = text.partition("/")
    try:
        return float(number) / float(divisor or 1)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"must be a number or a fraction such as 8/255, got {text!r}") from None


_EVALUATIONS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("clean", "accuracy on clean images", _add_clean),
    ("corruption", "error on ImageNet-C, CIFAR-10-C, CIFAR-100-C and sets like them", _add_corruption),
    ("ood", "telling images of other sets from those of the training set", _add_ood),
    ("calibration", "whether the network is as often right as it says", _add_calibration),
    ("autoattack", "accuracy under AutoAttack or one of its attacks", _add_autoattack),
    ("shift", "accuracy on ImageNet-A, -R, -Sketch or -V2", _add_shift),
    ("all", "everything that the sets below a folder allow, and one page about it", _add_all),
    ("compare", "several runs of `eval all` side by side", _add_compare),
)
