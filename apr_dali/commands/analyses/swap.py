"""`apr-dali analyze swap`: the amplitude of one image with the phase of another, and what a network calls it."""

from __future__ import annotations

import argparse

from apr_dali.commands.analyses.common import add_subject, open_subject
from apr_dali.commands.arguments import positive
from apr_dali.spectral import AXES


def add(parser: argparse.ArgumentParser) -> None:
    add_subject(parser, limit=1000)
    parser.add_argument(
        "--other-data",
        metavar="DIR",
        help="a second set, whose images are paired with those of the first, as in the paper's Fig. 3",
    )
    parser.add_argument("--images", nargs=2, metavar=("A", "B"), help="show these two image files, of one size")
    parser.add_argument(
        "--show", type=positive, default=3, metavar="N", help="random pairs in the picture (default: %(default)s)"
    )
    parser.add_argument("--axes", choices=AXES, default="chw", help="what is transformed together (%(default)s)")


def run(args: argparse.Namespace) -> None:
    """Write swap.json and swap-panels.png."""
    from apr_dali.eval import analyze_swap
    from apr_dali.eval.evaluations.swap import open_pair

    # Before a network is trained.
    open_pair(args.images, args.other_data)
    with open_subject(args) as session:
        result = analyze_swap(
            session,
            args.data,
            limit=args.limit,
            other_data=args.other_data,
            images=args.images,
            show=args.show,
            axes=args.axes,
            seed=args.seed,
        )
        print(f"{result.text()}\nwritten: {session.output / 'swap.json'}, swap-panels.png")
