"""`apr-dali eval corruption`: error by corruption and severity."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_network
from apr_dali.commands.evaluations.common import evaluate


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="ImageNet-C's folders, or CIFAR-C's .npy files; the word digits for digits that are corrupted now",
    )
    parser.add_argument("--clean", metavar="VAL", help="clean images too: for the relative mCE")


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_corruption

    evaluate(args, lambda session: evaluate_corruption(session, args.data, clean=args.clean))
