"""`apr-dali eval shift`: accuracy on ImageNet-A, -R, -Sketch or -V2."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_network
from apr_dali.commands.evaluations.common import evaluate


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument(
        "set", choices=("imagenet-a", "imagenet-r", "imagenet-sketch", "imagenet-v2"), help="which one --data holds"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of class folders")


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_shift

    evaluate(args, lambda session: evaluate_shift(session, args.data, set=args.set))
