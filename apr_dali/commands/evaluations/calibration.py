"""`apr-dali eval calibration`: whether the network is as often right as it says."""

from __future__ import annotations

import argparse

from apr_dali.commands.arguments import add_network
from apr_dali.commands.evaluations.common import evaluate


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument("--data", required=True, metavar="VAL", help="folder of class folders")


def run(args: argparse.Namespace) -> None:
    """Write and print the result."""
    from apr_dali.eval import evaluate_calibration

    evaluate(args, lambda session: evaluate_calibration(session, args.data))
