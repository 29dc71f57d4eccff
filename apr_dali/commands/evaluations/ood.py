"""`apr-dali eval ood`: telling images of other sets from those of the training set."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_network, named_paths
from apr_dali.commands.evaluations.common import evaluate


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
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


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_ood
    from apr_dali.eval.evaluations.ood import TAKEN

    sets = named_paths("--ood", args.ood, TAKEN)
    evaluate(args, lambda session: evaluate_ood(session, args.data, ood=sets, imagenet_o=args.imagenet_o))
