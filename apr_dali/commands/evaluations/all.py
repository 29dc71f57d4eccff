"""`apr-dali eval all`: all evaluations that the sets below a folder allow, and one page of results."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from apr_dali.commands.arguments import add_network, positive

if TYPE_CHECKING:
    from apr_dali.eval.result import Result


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_network(parser)
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder with val, imagenet-c, imagenet-a, … (a network of digits needs none)"
    )
    parser.add_argument(
        "--on-the-fly",
        action="store_true",
        help="where there is no corrupted set, corrupt val while the network runs over it",
    )
    parser.add_argument(
        "--attack", type=positive, metavar="N", help="AutoAttack on N images: hours (default: none are attacked)"
    )
    parser.add_argument("--latex", action="store_true", help="write the summary as a LaTeX table, too: report.tex")


def run(args: argparse.Namespace) -> int:
    """Write and print the results; 1 where a part failed."""
    from apr_dali.commands.network import open_network
    from apr_dali.eval import benchmark

    with open_network(args) as session:
        main = session.group.main

        def show(result: Result) -> None:
            if main:
                print(f"\n{result.text()}{result.kept_text}", flush=True)

        results = benchmark(
            session, args.data_root, attack=args.attack, on_the_fly=args.on_the_fly, latex=args.latex, each=show
        )
        if main:
            print(f"\nevaluations: {len(results)} done, {len(results.failed)} failed")
            print(f"written: {session.output / 'report.html'}")
            if results.failed:
                failed = "; ".join(f"{part}: {reason}" for part, reason in results.failed.items())
                print(f"error: failed: {failed}", file=sys.stderr)
        return 1 if results.failed else 0
