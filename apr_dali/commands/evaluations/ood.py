"""`apr-dali eval ood`: telling images of other sets from those of the training set."""

from __future__ import annotations

import argparse
from typing import Any

from apr_dali.commands.arguments import add_network, named_paths, positive
from apr_dali.commands.evaluations.common import evaluate
from apr_dali.errors import InputError

_SETS = ("ood", "near", "far", "shifted")
_VALIDATION = ("val_data", "ood_val")
_BOTH = ("scores", "fit_data", "fit_images", "search_parameters", "list_root")
"""Options of `--openood`, too."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument("--data", metavar="VAL", help="in-distribution images, or a list of them")
    for name, what in (
        (
            "ood",
            "sets that the network does not know: folders, or OpenOOD's image lists; for one of 32×32 images SVHN's "
            "test_32x32.mat, CIFAR's folder, and the words digits and photographs, for tiles of the built-in ones",
        ),
        ("near", "such sets that are near, with OpenOOD's measures and their mean"),
        ("far", "such sets that are far"),
        ("shifted", "other images of the network's classes: measures the full spectrum, too"),
    ):
        parser.add_argument(f"--{name}", nargs="+", metavar="NAME=PATH", help=what)
    parser.add_argument(
        "--openood", metavar="DIR", help="OpenOOD's folder data: its own, near and far sets of the network's classes"
    )
    parser.add_argument("--full-spectrum", action="store_true", help="with --openood's shifted sets, too")
    _add_scores(parser)
    parser.add_argument("--list-root", metavar="DIR", help="the folder of the paths in image lists (default: searched)")
    parser.add_argument(
        "--imagenet-o", action="store_true", help="score with the 200 classes of ImageNet-O alone, as its paper does"
    )


def _add_scores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scores",
        nargs="+",
        metavar="NAME",
        help="max-softmax, max-logit, energy, gen, odin, ash, scale; and react, dice, vim, knn, mahalanobis, which are "
        "fitted to --fit-data; or all (default: the first three)",
    )
    parser.add_argument(
        "--fit-data",
        metavar="TRAIN",
        help="training images that scores are fitted to, or a list of them (default with --openood: its list)",
    )
    parser.add_argument("--fit-images", type=positive, metavar="N", help="so many at the most (default: 50000)")
    parser.add_argument(
        "--search-parameters",
        action="store_true",
        help="take the parameters of gen, odin, react, ash, scale, vim and knn that tell --val-data from --ood-val "
        "best, as OpenOOD does (default: its default ones)",
    )
    parser.add_argument(
        "--val-data",
        metavar="VAL",
        help="validation images of the network's classes, none of --data, or a list of them; react is fitted to them "
        "(default with --openood: its list)",
    )
    parser.add_argument(
        "--ood-val",
        metavar="PATH",
        help="validation images that the network does not know, as for --ood (default with --openood: its list)",
    )


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_ood, evaluate_openood
    from apr_dali.eval.ood_sources import TAKEN

    options: dict[str, Any] = {name: getattr(args, name) for name in _BOTH}
    if args.openood is not None:
        own = ("data", *_SETS, *_VALIDATION, "imagenet_o")
        if named := [f"--{name.replace('_', '-')}" for name in own if getattr(args, name)]:
            raise InputError(f"--openood says itself what is measured: leave out {', '.join(named)}")
        full = args.full_spectrum
        evaluate(args, lambda session: evaluate_openood(session, args.openood, full_spectrum=full, **options))
        return
    if args.full_spectrum:
        raise InputError("--full-spectrum is of --openood: name the shifted sets with --shifted")
    if args.data is None or not (args.ood or args.near or args.far):
        raise InputError("give --data and --ood, --near or --far, or --openood")
    options.update({name: getattr(args, name) for name in _VALIDATION})
    for name in _SETS:
        options[name] = named_paths(f"--{name}", getattr(args, name) or (), TAKEN)
    evaluate(args, lambda session: evaluate_ood(session, args.data, imagenet_o=args.imagenet_o, **options))
