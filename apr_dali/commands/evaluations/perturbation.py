"""`apr-dali eval perturbation`: flip rate and top-5 distance on ImageNet-P's videos."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_network
from apr_dali.commands.evaluations.common import evaluate


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="folders <perturbation>/<class>/<video>.mp4")
    parser.add_argument(
        "--alexnet",
        metavar="FILE",
        help="perturbation.json of AlexNet on the same videos, for mFR and mT5D (default: alexnet.json in --data)",
    )


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_perturbation

    evaluate(args, lambda session: evaluate_perturbation(session, args.data, alexnet=args.alexnet))
