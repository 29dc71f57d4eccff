"""`apr-dali eval all`: all evaluations that the sets below a folder allow, and one page of results."""

from __future__ import annotations

import argparse
import sys

from apr_dali.commands.arguments import add_network, positive


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder with val, imagenet-c, imagenet-a, … (a network of digits needs none)"
    )
    parser.add_argument(
        "--attack", type=positive, metavar="N", help="AutoAttack on N images: hours (default: none are attacked)"
    )


def run(args: argparse.Namespace) -> int:
    """Write and print the results; 1 where a part failed."""
    from apr_dali.commands.all import evaluate_all
    from apr_dali.eval.session import open_session

    with open_session(args) as session:
        record, text = evaluate_all(session, args.data_root, args.attack)
        if session.group.main:
            print(text)
            print(f"written: {session.output / 'report.html'}")
        failed = record["failed"]
        if failed and session.group.main:
            print("error: failed: " + "; ".join(f"{part}: {reason}" for part, reason in failed), file=sys.stderr)
        return 1 if failed else 0
